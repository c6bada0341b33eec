"""Generation: prefill and decode loop in one compiled program per shape."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.core import FrozenDict
from jax.core import Tracer

from .config import Config
from .generation_config import GenerationConfig
from .sampling import Sampling, choose

if TYPE_CHECKING:
    from .base import PretrainedModel


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
            eos_token_id: a row that produced one of these is finished; () for none.
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
        options = (self.generation_config or GenerationConfig.of(self.config)).given(
            max_new_tokens=max_new_tokens,
            do_sample=do_sample,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
        )
        options.check(key)
        input_ids = jnp.asarray(input_ids, jnp.int32)
        mask = _prompt_mask(input_ids, attention_mask)
        _check_length(self.config, input_ids.shape[1], options.count)
        continuous = (options.temperature, options.top_p) if options.do_sample else (None, None)
        temperature, top_p = (x if x is None else jnp.float32(x) for x in continuous)
        static = dataclasses.replace(options, temperature=None, top_p=None, extra=FrozenDict())
        plain = self.clone(generation_config=None)
        return _generate(plain, static, params, input_ids, mask, temperature, top_p, key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(
    model: "PretrainedModel",
    options: GenerationConfig,
    params: Any,
    input_ids: jax.Array,
    mask: jax.Array,
    temperature: jax.Array | None,
    top_p: jax.Array | None,
    key: jax.Array | None,
) -> GenerateOutput:
    sampling = Sampling(options.do_sample, options.top_k or None, temperature, top_p)
    count, eos, pad = options.count, options.eos, options.pad
    batch, length = input_ids.shape
    prompt = mask.sum(axis=1, dtype=jnp.int32)
    positions = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
    cache = model.init_cache(batch, length + count)

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
        token = jnp.where(done, pad, choose(logits, sampling, step_key))
        return token, done | jnp.isin(token, jnp.array(eos, jnp.int32))

    def more(state):
        step, _, _, _, done, _ = state
        return (step < count) & ~done.all()

    def decode(state):
        step, token, tokens, lengths, done, cache = state
        logits, cache = forward(token[:, None], cache, (prompt + step - 1)[:, None])
        lengths = lengths + ~done
        token, done = pick(logits, step, done)
        tokens = jax.lax.dynamic_update_slice(tokens, token[:, None], (0, step))
        return step + 1, token, tokens, lengths, done, cache

    logits, cache = forward(input_ids, cache, positions, mask)
    token, done = pick(logits, 0, jnp.zeros(batch, bool))
    tokens = jnp.full((batch, count), pad, jnp.int32).at[:, 0].set(token)
    lengths = jnp.ones(batch, jnp.int32)
    state = (jnp.int32(1), token, tokens, lengths, done, cache)
    _, _, tokens, lengths, _, _ = jax.lax.while_loop(more, decode, state)
    return GenerateOutput(jnp.concatenate([input_ids, tokens], axis=1), lengths)


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
    limit = config.position_limit
    if limit is not None and prompt + new > limit:
        raise ValueError(
            f"a prompt of {prompt} tokens and {new} new ones are {prompt + new}; the model has "
            f"{limit} positions"
        )
