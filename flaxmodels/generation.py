"""Generation: prefill and decode loop in one compiled program per shape."""

import dataclasses
import functools
import json
import os
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.core import FrozenDict
from jax.core import Tracer

from .config import Config, ConfigError, freeze, read_json, thaw
from .sampling import Sampling, choose

if TYPE_CHECKING:
    from .base import PretrainedModel

GENERATION_CONFIG_NAME = "generation_config.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Defaults of `generate`, as `generation_config.json` gives them; None: not given.

    `extra` holds the keys that nothing here uses; they are written back.
    """

    max_new_tokens: int | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    extra: FrozenDict[str, Any] = FrozenDict()

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, config: Config) -> Self:
        """What a folder's `generation_config.json` says; the token ids of `config` fill gaps.

        A file that cannot be read is warned about: weights do not depend on it.
        """
        path = os.path.join(folder, GENERATION_CONFIG_NAME)
        values: dict[str, Any] = {}
        if os.path.exists(path):
            try:
                values = {key: freeze(value) for key, value in read_json(path).items()}
            except ConfigError as error:
                warnings.warn(f"{error}; generation defaults are not read", stacklevel=2)
        names = {field.name for field in dataclasses.fields(cls)} - {"extra"}
        known = {key: values.pop(key) for key in list(values) if key in names}
        if known.get("do_sample") is None:
            known.pop("do_sample", None)
        for name in ("eos_token_id", "pad_token_id", "bos_token_id"):
            if known.get(name) is None:
                known[name] = getattr(config, name)
        return cls(**known, extra=FrozenDict(values))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes `generation_config.json` into an existing folder."""
        values = dict(self.extra)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "extra" and value is not None:
                values[field.name] = value
        with open(os.path.join(folder, GENERATION_CONFIG_NAME), "w", encoding="utf-8") as file:
            file.write(json.dumps(thaw(values), indent=2, sort_keys=True) + "\n")


@struct.dataclass
class GenerateOutput:
    """What `generate` returns.

    Attributes:
        sequences: int32 [B, T + max_new_tokens]: the prompt, the new tokens, and padding after an
            end-of-sequence token.
        lengths: int32 [B]: new tokens of each row, the end-of-sequence token included.
    """

    sequences: jax.Array
    lengths: jax.Array


class Generates:
    """`generate` for models with a head over the vocabulary and a cache."""

    @classmethod
    def can_generate(cls) -> bool:
        """Whether the class can produce sequences with `generate`."""
        return False

    def generate(
        self: Any,
        params: Any,
        input_ids: jax.Array | np.ndarray,
        attention_mask: jax.Array | np.ndarray | None = None,
        *,
        max_new_tokens: int | None = None,
        do_sample: bool | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        eos_token_id: int | tuple[int, ...] | None = None,
        pad_token_id: int | None = None,
        key: jax.Array | None = None,
    ) -> GenerateOutput:
        """Continues prompts, greedily or by sampling; what is None comes from
        `self.generation_config`.

        One program does prefill and decode loop; it is compiled for the shapes and choices of
        the first call and reused by the next one with the same. Temperature and top-p may change
        without compiling again. Works under `jit`.

        Args:
            input_ids: int [B, T].
            attention_mask: [B, T], nonzero for tokens; prompts are padded on the left.
            max_new_tokens: length of the continuation (20 if nothing says otherwise).
            do_sample: draw the next token; else take the most probable.
            temperature, top_k, top_p: of the draw, applied in this order.
            eos_token_id: a row that produced one of these is finished.
            pad_token_id: what follows then; the first end-of-sequence token if there is none.
            key: a `jax.random.key`, needed to draw.

        Raises:
            TypeError: the class cannot generate.
            ValueError: arguments out of range, a prompt padded on the right, or too long.
        """
        if not self.can_generate():
            raise TypeError(
                f"{type(self).__name__} has no head over the vocabulary and cannot generate"
            )
        defaults = self.generation_config or GenerationConfig()

        def given(name: str, value: Any) -> Any:
            return getattr(defaults, name) if value is None else value

        do_sample = bool(given("do_sample", do_sample))
        sampling = _sampling(
            do_sample,
            given("temperature", temperature),
            given("top_k", top_k),
            given("top_p", top_p),
        )
        if do_sample and key is None:
            raise ValueError("do_sample needs a key: pass key=jax.random.key(seed)")
        count = given("max_new_tokens", max_new_tokens)
        eos = _ids(
            self.config.eos_token_id
            if given("eos_token_id", eos_token_id) is None
            else given("eos_token_id", eos_token_id)
        )
        pad = given("pad_token_id", pad_token_id)
        pad = self.config.pad_token_id if pad is None else pad
        spec = _Spec(20 if count is None else count, eos, pad if pad is not None else (*eos, 0)[0])
        input_ids = jnp.asarray(input_ids, jnp.int32)
        mask = _prompt_mask(input_ids, attention_mask)
        _check_length(self.config, input_ids.shape[1], spec.max_new_tokens)
        plain = self.clone(generation_config=None)
        return _generate(
            plain,
            spec,
            sampling.do_sample,
            sampling.top_k,
            params,
            input_ids,
            mask,
            (sampling.temperature, sampling.top_p),
            key,
        )


class _Spec(NamedTuple):
    max_new_tokens: int
    eos: tuple[int, ...]
    pad: int


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _generate(
    model: "PretrainedModel",
    spec: _Spec,
    do_sample: bool,
    top_k: int | None,
    params: Any,
    input_ids: jax.Array,
    mask: jax.Array,
    continuous: tuple[jax.Array | None, jax.Array | None],
    key: jax.Array | None,
) -> GenerateOutput:
    sampling = Sampling(do_sample, top_k, *continuous)
    batch, length = input_ids.shape
    prompt = mask.sum(axis=1, dtype=jnp.int32)
    positions = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
    cache = model.init_cache(batch, length + spec.max_new_tokens)

    def forward(ids, cache, positions, mask=None):
        out: Any = model.apply(
            {"params": params},
            ids,
            attention_mask=mask,
            position_ids=positions,
            cache=cache,
            logits_to_keep=1,
        )
        return out.logits[:, -1], out.cache

    def pick(logits, step, done):
        step_key = None if key is None else jax.random.fold_in(key, step)
        token = jnp.where(done, spec.pad, choose(logits, sampling, step_key))
        return token, done | jnp.isin(token, jnp.array(spec.eos, jnp.int32))

    def more(state):
        step, _, _, _, done, _ = state
        return (step < spec.max_new_tokens) & ~done.all()

    def decode(state):
        step, token, tokens, lengths, done, cache = state
        logits, cache = forward(token[:, None], cache, (prompt + step - 1)[:, None])
        lengths = lengths + ~done
        token, done = pick(logits, step, done)
        tokens = jax.lax.dynamic_update_slice(tokens, token[:, None], (0, step))
        return step + 1, token, tokens, lengths, done, cache

    logits, cache = forward(input_ids, cache, positions, mask)
    token, done = pick(logits, 0, jnp.zeros(batch, bool))
    tokens = jnp.full((batch, spec.max_new_tokens), spec.pad, jnp.int32).at[:, 0].set(token)
    lengths = jnp.ones(batch, jnp.int32)
    state = (jnp.int32(1), token, tokens, lengths, done, cache)
    _, _, tokens, lengths, _, _ = jax.lax.while_loop(more, decode, state)
    return GenerateOutput(jnp.concatenate([input_ids, tokens], axis=1), lengths)


def _sampling(
    do_sample: bool, temperature: float | None, top_k: int | None, top_p: float | None
) -> Sampling:
    if not do_sample:
        return Sampling(False)
    if temperature is not None and not temperature > 0:
        raise ValueError(
            f"temperature is {temperature}; it must be above 0 (greedy: do_sample=False)"
        )
    if top_k is not None and (top_k < 0 or top_k != int(top_k)):
        raise ValueError(f"top_k is {top_k}; it must be a positive integer, or 0 or None for all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it must be above 0 and at most 1")
    return Sampling(
        True,
        int(top_k) if top_k else None,
        None if temperature is None else jnp.float32(temperature),
        None if top_p is None else jnp.float32(top_p),
    )


def _ids(ids: int | tuple[int, ...] | None) -> tuple[int, ...]:
    return () if ids is None else (ids,) if isinstance(ids, int) else tuple(ids)


def _prompt_mask(input_ids: jax.Array, attention_mask: Any) -> jax.Array:
    if input_ids.ndim != 2 or input_ids.shape[1] == 0:
        raise ValueError(f"input_ids has shape {input_ids.shape}; expected [B, T] with T >= 1")
    if attention_mask is None:
        return jnp.ones(input_ids.shape, bool)
    mask = jnp.asarray(attention_mask) != 0
    if mask.shape != input_ids.shape:
        raise ValueError(f"attention_mask has shape {mask.shape}, input_ids {input_ids.shape}")
    if not isinstance(mask, Tracer) and not bool(mask[:, -1].all()):
        raise ValueError(
            "attention_mask ends in 0: prompts must be padded on the left, so that the last token "
            "of every row is the one to continue"
        )
    return mask


def _check_length(config: Config, prompt: int, new: int) -> None:
    if new < 1:
        raise ValueError(f"max_new_tokens is {new}; it must be at least 1")
    limit = config.position_limit
    if limit is not None and prompt + new > limit:
        raise ValueError(
            f"a prompt of {prompt} tokens and {new} new ones are {prompt + new}; the model has "
            f"{limit} positions"
        )
