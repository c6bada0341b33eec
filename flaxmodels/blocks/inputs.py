"""Inputs of a forward pass, checked in one place for all families: where PyTorch raises, JAX
broadcasts, clamps and gives NaN.

Shapes and dtypes are checked whenever a program is traced; values where they are known
(`concrete.known`): in a call outside of `jit`, and of constants.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..calls.known_values import check_token_ids, first_outside, is_deleted, known
from ..config.config import Config
from ..params.scalars import flag
from ..params.types import PyTree
from .kv_cache import Cache, CacheSpec, Ring


class Tokens(NamedTuple):
    """Holds the arguments of a backbone that describe its tokens. Exactly one of `input_ids` and
    `inputs_embeds` is given.

    Attributes:
        input_ids: int [B, T].
        inputs_embeds: float [B, T, D].
        attention_mask: 0 and 1 of any dtype: [B or 1, T], or without a cache [B or 1, T, T].
        token_type_ids: int [B or 1, T].
        position_ids: int [B or 1, T].
    """

    input_ids: jax.Array | None = None
    inputs_embeds: jax.Array | None = None
    attention_mask: jax.Array | None = None
    token_type_ids: jax.Array | None = None
    position_ids: jax.Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T)."""
        x: PyTree = self.inputs_embeds if self.input_ids is None else self.input_ids
        return x.shape[:2]

    def checked(
        self,
        config: Config,
        *,
        cache: Cache | None = None,
        specs: Mapping[str, CacheSpec] | None = None,
        stacked: bool = False,
        token_types: int | None = None,
    ) -> "Tokens":
        """Checks the arguments against each other, the config and the cache; returns arrays.

        Args:
            cache: what the new tokens go into.
            specs: of the model's caches; None where there is no `cache`.
            stacked: whether the model scans its layers.
            token_types: how many there are; None for a family without them.

        Raises:
            TypeError: ids that are not integers, vectors that are not floats, a foreign cache.
            ValueError: another shape, an id that has no row, a mask that is not of 0 and 1, more
                tokens than the cache or the table of positions has room for.
        """
        given = Tokens(*(as_array(name, x) for name, x in self._asdict().items()))
        _check_tokens(config, given.input_ids, given.inputs_embeds)
        shape = given.shape
        check_attention_mask(given.attention_mask, shape, pairs=cache is None)
        check_ids("token_type_ids", given.token_type_ids, shape, token_types, "token types")
        rows = config.position_limit
        rows = None if rows is None else rows + config.first_position
        check_ids("position_ids", given.position_ids, shape, rows, "positions")
        if cache is not None:
            _check_cache(cache, shape, specs or {}, stacked)
        if given.position_ids is None:
            filled = None if cache is None else known(cache.index)
            check_positions(config, shape[1] if filled is None else int(filled) + shape[1])
        return given


def as_array(name: str, x: object) -> Any:
    """Returns an argument as an array: a list, or a tensor of another library, as one of NumPy's;
    None as it is.

    Raises:
        TypeError: a masked array.
        ValueError: rows of different lengths, or an array that was deleted.
    """
    if is_deleted(x):
        raise ValueError(f"{name} was deleted, or donated to a function: give what that returned")
    if x is None or isinstance(x, jax.Array | jax.ShapeDtypeStruct):
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; give its numbers, x.filled(0), and a mask")
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(
            f"{name} has rows of different lengths: pad them to one, and mask what is padding"
        ) from None


def is_of_numbers(x: jax.Array | np.ndarray) -> bool:
    """Tells whether an array is of integers, floats or bools."""
    return any(jnp.issubdtype(x.dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))


def check_numbers(name: str, x: jax.Array | np.ndarray) -> None:
    """Refuses an array that is neither of integers, nor of floats or bools."""
    if not is_of_numbers(x):
        raise TypeError(f"{name} must be of numbers, got {x.dtype}")


def as_numbers(name: str, x: object) -> jax.Array:
    """Returns an argument as an array of numbers, with the errors of `as_array`.

    Raises:
        TypeError: None, or an array of something else.
    """
    array = as_array(name, x)
    if array is None:
        raise TypeError(f"{name} is None; expected an array")
    check_numbers(name, array)
    return jnp.asarray(array)


def as_flag(name: str, value: Any) -> bool:
    """Returns an argument that decides which program is traced: True or False, or 1 or 0.

    Raises:
        TypeError: another value, or one that is not known while a program is traced.
    """
    is_number = not isinstance(value, Tracer) and np.ndim(value) == 0 and value in (0, 1)
    return flag(name, bool(value) if is_number else value)


def check_attention_mask(
    mask: jax.Array | None, shape: tuple[int, int], *, pairs: bool = True
) -> None:
    """Refuses a mask that is not 0 or 1 for each token [B, T] = `shape`, or for each pair of them.

    An additive mask (0 to attend, a large negative number to ignore) would mean the reverse. Values
    are checked outside of `jit` alone.
    """
    if mask is None:
        return
    check_numbers("attention_mask", mask)
    batch, length = shape
    shapes = [(length,), (length, length)] if pairs else [(length,)]
    if mask.shape[1:] not in shapes or mask.shape[0] not in (1, batch):
        forms = " or ".join(str([batch, *form]) for form in shapes)
        hint = "" if pairs else "; with a cache it covers the new tokens alone"
        raise ValueError(f"attention_mask has shape {mask.shape}: expected {forms}{hint}")
    values = known(mask)
    if values is None or values.dtype == bool:
        return
    odd = values[(values != 0) & (values != 1)]
    if odd.size:
        problem = f"holds {odd[0]}"
    elif values.dtype.kind not in "iu" and not values.any():
        problem = "is of floats and holds no 1"
    else:
        return
    raise ValueError(
        f"attention_mask {problem}: expected 1 for tokens and 0 for padding; of an additive mask "
        "(0 to attend, a large negative number to ignore) give mask == 0"
    )


def checked_encoder(
    states: object, mask: object, batch: int, width: int
) -> tuple[jax.Array, jax.Array | None]:
    """Returns an encoder's states [B, S, D] and their mask [B or 1, S] as arrays.

    Raises:
        TypeError: states that are not floats.
        ValueError: another shape, or a mask that is not of 0 and 1.
    """
    encoded: jax.Array = jnp.asarray(as_array("encoder_hidden_states", states))
    tokens: jax.Array | None = as_array("encoder_attention_mask", mask)
    _check_form("encoder_hidden_states", encoded, f"[{batch}, S, {width}]", 3)
    if (encoded.shape[0], encoded.shape[2]) != (batch, width):
        raise ValueError(
            f"encoder_hidden_states has shape {encoded.shape}: expected [{batch}, S, {width}]"
        )
    if not jnp.issubdtype(encoded.dtype, jnp.floating):
        raise TypeError(f"encoder_hidden_states must be floats, got {encoded.dtype}")
    if tokens is not None and tokens.ndim != 2:
        raise ValueError(
            f"encoder_attention_mask has shape {tokens.shape}: expected {list(encoded.shape[:2])}"
        )
    try:
        check_attention_mask(tokens, (batch, encoded.shape[1]))
    except ValueError as error:
        raise ValueError(f"encoder_{error}") from None
    return encoded, tokens


def _check_tokens(
    config: Config, input_ids: jax.Array | None, inputs_embeds: jax.Array | None
) -> None:
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give either input_ids or inputs_embeds, and not both")
    if inputs_embeds is not None:
        width = config.embedding_size
        _check_form("inputs_embeds", inputs_embeds, f"[B, T, {width}]", 3)
        if inputs_embeds.shape[2] != width:
            raise ValueError(
                f"inputs_embeds has shape {inputs_embeds.shape}: expected [B, T, {width}]"
            )
        if not jnp.issubdtype(inputs_embeds.dtype, jnp.floating):
            raise TypeError(f"inputs_embeds must be floats, got {inputs_embeds.dtype}")
    elif input_ids is not None:
        _check_form("input_ids", input_ids, "[B, T]", 2)
        check_token_ids(input_ids, config.vocab_size)


def _check_form(name: str, x: jax.Array, form: str, rank: int) -> None:
    if x.ndim == rank and 0 not in x.shape:
        return
    hint = ""
    if x.ndim == rank - 1:
        hint = f"; a single sequence is {name}[None]"
    elif x.ndim == rank + 1 and x.shape[0] == 1:
        hint = f"; that is {name}[0]"
    raise ValueError(f"{name} has shape {x.shape}: expected {form}, nothing of it empty{hint}")


_LARGEST = 1 << 31


def check_ids(
    name: str, ids: jax.Array | None, shape: tuple[int, ...], limit: int | None, what: str
) -> None:
    """Refuses ids that are not int of `shape`, or of a batch of 1, or not from 0 to `limit` - 1."""
    if ids is None:
        return
    given: PyTree = as_array(name, ids)
    if given.shape not in (shape, (1, *shape[1:])):
        raise ValueError(f"{name} has shape {given.shape}: expected {list(shape)}")
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got {given.dtype}")
    if (odd := first_outside(given, _LARGEST if limit is None else limit)) is not None:
        there = (
            f"they begin at 0 and end before {_LARGEST}, as they are counted in int32"
            if limit is None
            else f"there are {limit} {what}, 0 to {limit - 1}"
        )
        raise ValueError(f"{name}{odd[0]} is {odd[1]}; {there}")


def _check_cache(
    cache: object, shape: tuple[int, int], specs: Mapping[str, CacheSpec], stacked: bool
) -> None:
    if not isinstance(cache, Cache):
        raise TypeError(f"cache is a {type(cache).__name__}; expected what init_cache returns")
    batch, slots = cache.mask.shape
    if batch != shape[0]:
        raise ValueError(f"the cache is of {batch} sequences, and there are {shape[0]}")
    layers = [entry.keys for entry in cache.entries.values()]
    looped, count = isinstance(layers[0], tuple), sum(map(len, layers))
    depth = sum(len(spec.num_heads) for spec in specs.values())
    if stacked == looped or count != depth:
        raise ValueError(
            f"the cache is of {count} layers, in {'a tuple' if looped else 'one stack'}; this "
            f"model has {depth}{', scanned' if stacked else ''}: make it with this model's "
            "init_cache"
        )
    made = {each: spec._replace(window=None) for each, spec in specs.items()}
    if made != (found := {each: entry.spec for each, entry in cache.entries.items()}):
        raise ValueError(
            f"the cache is of another model: it keeps {found}, and this one {made}; make it with "
            "this model's init_cache"
        )
    for entry in cache.entries.values():
        for keys in entry.keys if isinstance(entry.keys, tuple) else (entry.keys,):
            held = keys.shape[-4], slots if isinstance(entry, Ring) else keys.shape[-2]
            if held != (batch, slots):
                raise ValueError(
                    f"the mask of the cache is of {batch} sequences of {slots} slots, and it has "
                    f"keys of {held[0]} of {held[1]}: make one of another size with init_cache"
                )
    if any(map(is_deleted, jax.tree.leaves(cache))):
        raise ValueError(
            "the memory of the cache was given on to an earlier call: go on with what that returned"
        )
    filled = known(cache.index)
    if filled is not None and filled < 0:
        raise ValueError(f"cache.index is {filled}: of its {slots} slots so many are filled")
    end = shape[1] if filled is None else int(filled) + shape[1]
    if _exceeds(end, slots):
        before = f"{int(filled)} of them filled, " if filled is not None else ""
        raise ValueError(
            f"the cache has {slots} slots, {before}and there are {shape[1]} new tokens"
        )


def check_positions(config: Config, length: int, what: str = "tokens") -> None:
    """Refuses more tokens than a model with a table of positions can tell apart."""
    limit = config.position_limit
    if limit is not None and _exceeds(length, limit):
        raise ValueError(
            f"{length} {what}, and the model has {limit} positions; cut what it is given, or say "
            "with position_ids which positions there are"
        )


def _exceeds(length: int, limit: int) -> bool:
    return isinstance(length, int) and length > limit  # a symbolic length may be anything
