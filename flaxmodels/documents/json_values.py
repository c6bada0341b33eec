"""Values of JSON documents, and of callers who give the same: normalised by `freeze`, both alike.

`freeze` turns a value into the JSON value that it stands for, immutable: a NumPy or JAX scalar into
its number, a list, a set, a range or an array into a tuple, a dtype into its name.
"""

import math
import os
from collections.abc import Iterable, Mapping, Set
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jax.core import Tracer

from ..params.errors import PrintableError
from ..params.strict_json import Json as Json

JsonObject: TypeAlias = Mapping[str, Json]

MAX_VALUES = 250_000  # in one document; a million take ten seconds
_MAX_DEPTH = 64  # far from where Python cannot compare two that are equal
_MAX_BITS = 14_000  # more digits than Python writes


class ConfigError(PrintableError):
    """A configuration with a value that cannot be honoured, or a file that is no configuration."""


def freeze(value: object, depth: int = 0) -> Json:
    """Returns the JSON value that `value` stands for, immutable and hashable; keys become text.

    Args:
        depth: the number of mappings and lists around it.

    Raises:
        ConfigError: a value under a JAX transformation, one that JSON has no form for, one nested
            more than 64 deep. The message is the end of a sentence that begins with a field's name.

    >>> freeze({"eos": np.array([2, 3]), "stop": {7, 5}, "dtype": jnp.bfloat16, 0: np.float32(0.5)})
    FrozenDict({
        eos: (2, 3),
        stop: (5, 7),
        dtype: 'bfloat16',
        0: 0.5,
    })
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            raise ConfigError(f"is an integer of {value.bit_length()} bits, more than JSON takes")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Tracer):
        raise ConfigError(
            "is an array under a JAX transformation (jit, vmap, ...), and a configuration is part "
            "of the compiled program; make it outside, or name the argument in static_argnames"
        )
    if (name := _dtype_name(value)) is not None:
        return name
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _of_array(value, depth)
    if isinstance(value, os.PathLike):
        return _text(os.fsdecode(value))
    if depth >= _MAX_DEPTH:
        raise ConfigError("is nested too deeply")
    if isinstance(value, Mapping):
        items = {_key(key): freeze(item, depth + 1) for key, item in value.items()}
        if len(items) < len(value):
            raise ConfigError(f"has one key twice, as a number and as its text: {shown([*value])}")
        return FrozenDict(items)
    if isinstance(value, list | tuple | range | Set):
        return _sequence(value, depth)
    raise ConfigError(f"is a {type(value).__name__}, which JSON has no form for")


def _text(value: str) -> str:
    value = str.__str__(value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"holds half of a surrogate pair, which is no text: {shown(value)}"
        ) from None
    return value


def _key(key: object) -> str:
    if isinstance(key, str):
        return _text(key)
    if isinstance(key, Iterable):
        raise ConfigError(f"has the key {shown(key)}; expected a text, or a number")
    return str(freeze(key))


def _sequence(values: Iterable[object], depth: int) -> tuple[Json, ...]:
    if isinstance(values, range) and len(values) > MAX_VALUES:
        raise ConfigError(f"is {values}; at most {MAX_VALUES} values")
    items = tuple(freeze(item, depth + 1) for item in values)
    if not isinstance(values, Set):
        return items
    try:
        return tuple(sorted(items))
    except TypeError:
        raise ConfigError(f"is a set without an order: {shown(items)}; give a list") from None


def _of_array(array: np.ndarray | np.generic | jax.Array, depth: int) -> Json:
    if array.size > MAX_VALUES:
        raise ConfigError(f"is an array of shape {array.shape}; at most {MAX_VALUES} values")
    values = np.asarray(array).tolist()
    if isinstance(values, np.generic):  # of a dtype that is not NumPy's own
        values = float(values)
    return freeze(values, depth)


def _dtype_name(value: object) -> str | None:
    """Returns the name of a dtype of NumPy, JAX or PyTorch; None for any other value."""
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, type) and (issubclass(value, np.generic) or hasattr(value, "dtype")):
        return jnp.dtype(value).name
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return str(value).removeprefix("torch.")
    return None


def thaw(value: Json) -> Json:
    """Turns a frozen value into dicts and lists, for `json.dumps`."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    return value


def shown(value: object, most: int = 200) -> str:
    """Formats a value for an error: control characters escaped, at most `most` characters."""
    try:
        text = repr(_without_frozen(value))
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[: most - 30]}... ({len(text)} characters)"


def _without_frozen(value: Json) -> Json:
    """Replaces FrozenDicts by dicts: they print keys without escaping them."""
    if isinstance(value, Mapping):
        return {key: _without_frozen(item) for key, item in value.items()}
    return tuple(map(_without_frozen, value)) if type(value) is tuple else value


def is_finite(value: Json) -> bool:
    """Tells whether a decoded JSON value is without Infinity and NaN, which are not JSON."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
