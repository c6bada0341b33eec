"""Generation: `generate` merges and checks its settings, and calls the compiled program."""

import functools
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..calls.concrete import is_traced
from ..config import unimplemented_settings as settings
from ..config.config import Config
from ..config.generation_config import GenerationConfig
from ..core.model import Mixin, Model
from ..params.errors import warn
from ..params.sizes import format_size
from ..params.tree.keys import one_key
from ..params.types import Params
from .decoding import DecodeOptions, Draw, decode
from .decoding import GenerateOutput as GenerateOutput
from .prompts import Prompt, read_prompt


class Generates(Mixin):
    """Adds `generate` to models with a head over the vocabulary and a cache."""

    def generate(
        self,
        params: Params,
        input_ids: jax.Array | np.ndarray,
        attention_mask: jax.Array | np.ndarray | None = None,
        *,
        generation_config: GenerationConfig | None = None,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        do_sample: bool | None = None,
        temperature: float | jax.Array | None = None,
        top_k: int | None = None,
        top_p: float | jax.Array | None = None,
        eos_token_id: int | tuple[int, ...] | None = None,
        pad_token_id: int | None = None,
        key: jax.Array | None = None,
        **others: Any,
    ) -> GenerateOutput:
        """Continues prompts, greedily or by sampling. A setting that is None comes from
        `generation_config`, then from `self.generation_config`; see `docs/generation.md`.

        One program does prefill and decode loop; it is compiled for the shapes and choices of
        the first call and reused by the next one with the same. Temperature and top-p may change
        without compiling again. Works under `jit`, `vmap` and `shard_map`, where values that only
        the running program knows are not checked. Outside of them it waits for its result, to
        see that all logits were finite.

        Args:
            input_ids: int [B, T].
            attention_mask: [B, T], nonzero for tokens; rows may be padded on either side. If None,
                `pad_token_id` is padding, unless it is an end-of-sequence token too.
            generation_config: settings for this call.
            max_new_tokens: length of the continuation (20 if nothing says otherwise).
            max_length: length with the prompt; `max_new_tokens` overrides it.
            do_sample: draw the next token; else take the most probable.
            temperature, top_k, top_p: of the draw, applied in this order; 0 for all tokens.
            eos_token_id: a row that produced one of these is finished; () for none.
            pad_token_id: what follows then; the first end-of-sequence token if there is none.
            key: one `jax.random.key`, needed to draw and else not used. Each row draws from it; for
                a key per row, map `generate` over rows and keys with `jax.vmap`.
            **others: settings of Transformers that change nothing, as `num_beams=1`.

        Raises:
            TypeError: the class cannot generate; a name that is no setting; ids that are no
                integers.
            ValueError: arguments out of range, a prompt that is no batch, or too long, ids that
                the vocabulary does not have; logits that are not finite, by row and step.
            NotImplementedError: a setting of Transformers that is not done yet.
        """
        if not self.can_generate():
            raise TypeError(
                f"{type(self).__name__} has no head over the vocabulary and cannot generate"
            )
        _check_params(params)
        asked = {
            "max_new_tokens": max_new_tokens,
            "max_length": max_length,
            "do_sample": do_sample,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "eos_token_id": eos_token_id,
            "pad_token_id": pad_token_id,
        }
        settings.neutral("generate", others, [*asked, *_NO_SETTINGS])
        # Values that only the running program knows cannot be part of what it is compiled for.
        traced = {k: asked.pop(k) for k in ("temperature", "top_p") if _is_traced(k, asked[k])}
        options = _settle(self, asked, generation_config, traced)
        prompt = read_prompt(
            input_ids,
            attention_mask,
            pad=options.pad_token_id,
            eos=options.eos,
            vocab_size=getattr(self.config.text, "vocab_size", None),
        )
        return _run(self, params, prompt, options, _draw(options, traced, key))


_NO_SETTINGS = ("input_ids", "attention_mask", "generation_config", "key")


def _run(
    model: Model, params: Params, prompt: Prompt, settings: GenerationConfig, draw: Draw
) -> GenerateOutput:
    """Runs the program; raises `ValueError` if it needs too much memory, or if logits are not
    finite."""
    batch, length = prompt.ids.shape
    count = _count_tokens(model.config, length, settings)
    eager = not is_traced(params, prompt, draw)
    top_k = settings.top_k or None
    options = DecodeOptions(
        count, bool(settings.do_sample), top_k, settings.eos, settings.pad, stop_on_failure=eager
    )
    plain = model.clone(generation_config=None)  # one program for all that differ in it
    _check_memory(plain, batch, length, count)
    try:
        output, failure = decode(plain, options, params, prompt, draw)
        if eager:
            _check_finite(failure)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(_no_room(batch, length, count)) from error
    return output


def _draw(
    settings: GenerationConfig, traced: Mapping[str, jax.Array], key: jax.Array | None
) -> Draw:
    if not settings.do_sample:
        return Draw()
    if key is None:
        raise ValueError("do_sample needs a key: pass key=jax.random.key(seed)")

    def scalar(name: str) -> jax.Array | None:
        value = traced.get(name, getattr(settings, name))
        return None if value is None else jnp.asarray(value, jnp.float32)

    return Draw(scalar("temperature"), scalar("top_p"), one_key(key))


def _check_params(params: object) -> None:
    if isinstance(params, Mapping) and set(params) != {"params"}:
        return
    got = "{'params': ...}" if isinstance(params, Mapping) else f"a {type(params).__name__}"
    raise TypeError(
        f"generate takes the tree of params before the prompt, model.generate(params, input_ids); "
        f"got {got}"
    )


def _is_traced(name: str, value: object) -> bool:
    if not isinstance(value, Tracer):
        return False
    if value.shape:
        raise ValueError(f"{name} has shape {value.shape}; expected one number for all rows")
    return True


def _settle(
    model: Model,
    asked: Mapping[str, Any],
    config: GenerationConfig | None,
    traced: Mapping[str, jax.Array],
) -> GenerationConfig:
    """Merges settings: a call's keywords, then its `generation_config`, then the model's."""
    keywords = GenerationConfig().given(**asked)
    for given in (config, model.generation_config):
        if not isinstance(given, GenerationConfig | None):
            raise TypeError(
                f"generation_config is a {type(given).__name__}; expected a GenerationConfig, as "
                "GenerationConfig(**settings)"
            )
    caller = keywords if config is None else keywords.over(config)
    default = model.generation_config or GenerationConfig.of(model.config)
    limit = model.config.text.position_limit
    if limit is not None and default.max_length is not None:
        default = default.given(max_length=min(default.max_length, limit))
    options = caller.over(default)
    options.check(getattr(model.config.text, "vocab_size", None))
    _warn_of_two_lengths(keywords, config)
    if not options.do_sample:
        idle = keywords if config is None or config.do_sample else caller
        _warn_of_idle(idle, traced)
    return options


_WITHOUT_EFFECT = {"temperature": (None, 0, 1), "top_k": (None, 0, 50), "top_p": (None, 1)}
"""Values that a draw need not be asked for; 50 is what Transformers has by default."""


def _warn_of_idle(caller: GenerationConfig, traced: Mapping[str, jax.Array]) -> None:
    values = {name: getattr(caller, name) for name in _WITHOUT_EFFECT}
    idle = [name for name, same in _WITHOUT_EFFECT.items() if values[name] not in same]
    if idle := [*idle, *traced]:
        warn(f"{', '.join(idle)} of a draw have no effect: give do_sample=True, or leave them out")


def _warn_of_two_lengths(*given: GenerationConfig | None) -> None:
    for one in given:
        if one and (one.max_new_tokens or one.max_length):
            if one.max_new_tokens and one.max_length:
                warn("max_new_tokens goes before max_length: give one of them")
            return


def _count_tokens(config: Config, length: int, options: GenerationConfig) -> int:
    limit = config.text.position_limit
    count = options.count(length, limit)
    if limit is not None and length + count > limit:
        raise ValueError(
            f"a prompt of {length} tokens and {count} new ones are {length + count}; the model has "
            f"{limit} positions"
        )
    return count


def _check_memory(model: Any, batch: int, length: int, count: int) -> None:
    """Refuses a cache larger than all memory; a length may come from a file."""
    needed = _cache_bytes(model, batch, length + count) if length + count < 1 << 31 else math.inf
    if needed > _memory():
        raise ValueError(_no_room(batch, length, count))


def _no_room(batch: int, length: int, count: int) -> str:
    return (
        f"{batch} rows of {length} and {count} new tokens need a cache that does not fit the "
        f"memory of the devices ({format_size(_memory())} together): give a smaller max_new_tokens"
    )


@functools.lru_cache(maxsize=256)
def _cache_bytes(model: Any, batch: int, slots: int) -> int:
    cache = jax.eval_shape(lambda: model.init_cache(batch, slots))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))


@functools.cache
def _memory() -> int:
    """Returns the bytes of memory of all devices; CPU devices share the machine's."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if device.platform != "cpu" and "bytes_limit" in stats:
        return stats["bytes_limit"] * jax.device_count()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_finite(failure: jax.Array) -> None:
    rows, row, step = np.asarray(jax.device_get(failure)).tolist()
    if not rows:
        return
    others = f" (and of {rows - 1} more)" if rows > 1 else ""
    raise ValueError(
        f"the logits of row {row}{others} are not finite at step {step}, after {step} new tokens, "
        "so that there is no next token: look for NaN or infinity in the params; in float16 they "
        "may overflow, in bfloat16 (dtype=jnp.bfloat16) less so"
    )
