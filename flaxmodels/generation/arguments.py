"""What `generate` and `stream` are asked: settings merged and checked, memory, failures."""

import contextlib
import functools
import math
import os
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..calls.known_values import is_deleted
from ..config.config import Config
from ..config.generation_config import GenerationConfig
from ..core.model import Model
from ..params.errors import warn
from ..params.sizes import format_size
from ..params.tree.keys import one_key
from .sampling import Draw


def draw_of(
    settings: GenerationConfig, traced: Mapping[str, jax.Array], key: jax.Array | None
) -> Draw:
    """Returns the arrays of a draw: those that only the running program knows, and the settings'.

    Raises:
        TypeError: what is no key, though nothing is drawn.
        ValueError: a draw without a key.
    """
    key = None if key is None else one_key(key)
    if not settings.do_sample:
        return Draw()
    if key is None:
        raise ValueError("do_sample needs a key: pass key=jax.random.key(seed)")

    def scalar(name: str) -> jax.Array | None:
        value = traced.get(name, getattr(settings, name))
        return None if value is None else jnp.asarray(value, jnp.float32)

    return Draw(scalar("temperature"), scalar("top_p"), key)


def check_params(params: object) -> None:
    """Checks what is given for params.

    Raises:
        TypeError: no tree of params, as variables or a prompt; or a tree of shapes.
        ValueError: an array of it was deleted.
    """
    if isinstance(params, Mapping) and set(params) != {"params"}:
        for leaf in jax.tree.leaves(params):
            if isinstance(leaf, jax.ShapeDtypeStruct | str):
                raise TypeError(
                    f"generate takes params with numbers, and has a {type(leaf).__name__} among "
                    "them: load them, or model.init_params(key)"
                )
            if is_deleted(leaf):
                raise ValueError(
                    f"the params hold an array of shape {leaf.shape} that was deleted, or donated "
                    "to a function (donate_argnums): use what that returned"
                )
        return
    got = "{'params': ...}" if isinstance(params, Mapping) else f"a {type(params).__name__}"
    raise TypeError(
        f"generate takes the tree of params before the prompt, model.generate(params, input_ids); "
        f"got {got}"
    )


def is_traced_number(name: str, value: object) -> bool:
    """Tells whether a setting is known to the running program alone; raises `ValueError` for one
    that is traced, and no single number."""
    if not isinstance(value, Tracer):
        return False
    if value.shape:
        raise ValueError(f"{name} has shape {value.shape}; expected one number for all rows")
    return True


def settle(
    model: Model,
    asked: Mapping[str, object],
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


def count_tokens(config: Config, length: int, options: GenerationConfig) -> int:
    """Returns how many new tokens there are at most after a prompt of `length`; raises `ValueError`
    for more than the model has positions for."""
    limit = config.text.position_limit
    count = options.count(length, limit)
    if limit is not None and length + count > limit:
        raise ValueError(
            f"a prompt of {length} tokens and {count} new ones are {length + count}; the model has "
            f"{limit} positions"
        )
    return count


def start_token(model: Model, options: GenerationConfig) -> int | None:
    """Returns the token that the decoder of an encoder-decoder begins with; None for a decoder that
    reads the prompt itself.

    Raises:
        ValueError: nothing says which.
    """
    if not model.is_encoder_decoder:
        return None
    start = options.decoder_start_token_id
    start = options.bos_token_id if start is None else start
    if start is None:
        raise ValueError(
            f"{type(model).__name__}: give decoder_start_token_id: neither the call nor the "
            "configurations say what the decoder begins with"
        )
    return start


def check_memory(model: Model, batch: int, length: int, count: int) -> None:
    """Refuses a cache larger than all memory; a length may come from a file."""
    needed = _cache_bytes(model, batch, length + count) if length + count < 1 << 31 else math.inf
    if needed > _memory():
        raise ValueError(_no_room(batch, length, count))


def _no_room(batch: int, length: int, count: int) -> str:
    """Makes the message that a cache is too large."""
    return (
        f"{batch} rows of {length} and {count} new tokens need a cache that does not fit the "
        f"memory of the devices ({format_size(_memory())} together): give a smaller max_new_tokens"
    )


@contextlib.contextmanager
def memory_named(batch: int, length: int, count: int) -> Iterator[None]:
    """Raises `ValueError` with what to do where the runtime has no memory for what is inside."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(_no_room(batch, length, count)) from error


@functools.lru_cache(maxsize=256)
def _cache_bytes(model: Model, batch: int, slots: int) -> int:
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


def check_finite(failure: jax.Array | np.ndarray) -> None:
    """Raises `ValueError` if rows failed, as `decode` tells: int32 [3], how many, the first of
    them, and after how many tokens."""
    rows, row, step = np.asarray(jax.device_get(failure)).tolist()
    if not rows:
        return
    others = f" (and of {rows - 1} more)" if rows > 1 else ""
    raise ValueError(
        f"the logits of row {row}{others} are not finite at step {step}, after {step} new tokens, "
        "so that there is no next token: look for NaN or infinity in the params; in float16 they "
        "may overflow, in bfloat16 (dtype=jnp.bfloat16) less so"
    )
