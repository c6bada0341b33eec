"""Values of JSON files and of callers: one normaliser for both, checks, and the way back to JSON.

`freeze` makes of whatever stands for a JSON value that value, immutable: of a NumPy or JAX scalar
the number, of a list, a set, a range or an array a tuple, of a dtype its name. `checked` then holds
it to the type of a field. JSON has one kind of number, so 4096, 4096.0 and 4.096e3 are the same
and serve as an int; a text, a boolean or null never does.
"""

import dataclasses
import functools
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jax.core import Tracer

from ..params import CheckpointError, strict_json
from ..params.errors import PrintableError
from ..params.formats import LocalFile, without_config

MAX_CONFIG_BYTES = 16 << 20
MAX_VALUES = 250_000  # a million take ten seconds
_CACHED = re.compile(r"/models--[^/]+/snapshots/")  # which has but what was asked for
_MAX_DEPTH = 64  # far from where Python cannot compare two that are equal
_MAX_BITS = 14_000  # more digits than Python writes
_EXACT = 2.0**53  # below it every integer is a float of its own


class ConfigError(PrintableError):
    """A configuration that names a field this library cannot honour, or a value that is none."""


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """A JSON object from a file of at most 16 MiB, no key twice. Infinity and NaN, which Python
    writes, are floats: whoever uses a value checks it, and `config_files.is_finite` tells.

    Raises:
        ConfigError: with the file's name.
    """
    path = os.fspath(path)
    if "\0" not in path and not os.path.lexists(path):
        folder = os.path.dirname(path)
        said = "" if _CACHED.search(folder) else f": {without_config(folder or '.')}"
        raise ConfigError(f"{path}: No such file{said}")
    try:
        file = LocalFile(path)
        if file.size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: {file.size} bytes; a configuration has at most 16 MiB")
        file.reject_lookalikes()
        raw = file.read(0, file.size)
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    try:
        value = strict_json.loads(raw, MAX_VALUES, constants=float)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def out_of_range(name: str, value: Any) -> str | None:
    """What is wrong with a field's value, by the kind of quantity that its name says it is."""
    if name.endswith(("_size", "_dim", "position_embeddings")) or name.startswith(("num_", "n_")):
        return None if 0 < value < 1 << 31 else "it must be positive and below 2**31"
    if name.endswith("_token_id"):
        ids = value if isinstance(value, tuple) else (value,)
        fits = all(-(1 << 31) <= i < 1 << 31 for i in ids)
        return None if fits else "a token id is an int32"
    if name.endswith(("_eps", "_epsilon")):
        return None if value > 0 else "it must be positive"
    if "drop" in name:
        return None if 0 <= value <= 1 else "it must be a probability"
    if name == "initializer_range":
        return None if value >= 0 else "it must not be negative"
    return None


def freeze(value: Any, depth: int = 0) -> Any:
    """The JSON value that `value` stands for, immutable and hashable, mappings with text for keys.

    Args:
        depth: how many mappings and lists are around it already.

    Raises:
        ConfigError: a value under a JAX transformation, one that JSON has no form for, one nested
            more than 64 deep; the text goes on after the name of a field.

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


def _key(key: Any) -> str:
    return _text(key) if isinstance(key, str) else str(freeze(key, _MAX_DEPTH))


def _sequence(values: Iterable[Any], depth: int) -> tuple[Any, ...]:
    if isinstance(values, range) and len(values) > MAX_VALUES:
        raise ConfigError(f"is {values}; at most {MAX_VALUES} values")
    items = tuple(freeze(item, depth + 1) for item in values)
    if not isinstance(values, Set):
        return items
    try:
        return tuple(sorted(items))
    except TypeError:
        raise ConfigError(f"is a set without an order: {shown(items)}; give a list") from None


def _of_array(array: Any, depth: int) -> Any:
    if array.size > MAX_VALUES:
        raise ConfigError(f"is an array of shape {array.shape}; at most {MAX_VALUES} values")
    values = np.asarray(array).tolist()
    if isinstance(values, np.generic):  # of a dtype that is not NumPy's own
        values = float(values)
    return freeze(values, depth)


def _dtype_name(value: Any) -> str | None:
    """The name of a dtype, given as NumPy's, JAX's or PyTorch's object; None for anything else."""
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, type) and (issubclass(value, np.generic) or hasattr(value, "dtype")):
        return jnp.dtype(value).name
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return str(value).removeprefix("torch.")
    return None


def thaw(value: Any) -> Any:
    """The inverse of `freeze`, up to the type of keys: what `json.dumps` takes."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    return value


def shown(value: Any, most: int = 200) -> str:
    """A value as an error shows it: control characters escaped, at most `most` characters."""
    try:
        text = repr(_without_frozen(value))
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[: most - 30]}... ({len(text)} characters)"


def _without_frozen(value: Any) -> Any:
    """`value` with dicts for FrozenDicts, which print keys without escaping them."""
    if isinstance(value, Mapping):
        return {key: _without_frozen(item) for key, item in value.items()}
    return tuple(map(_without_frozen, value)) if type(value) is tuple else value


@functools.cache
def hints_of(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def checked(cls: type, name: str, value: Any, hint: Any) -> Any:
    """The value of a field, from a file or from a caller, as the type `hint` says.

    Beside what `freeze` does, an integer serves as a float, a float that is one as an integer
    (1e4 in a JSON file), and the text of a number as a float (1e-5 is text to YAML's readers, so
    real files have it). Nothing else is converted.

    Raises:
        ConfigError: naming class and field.
    """
    try:
        frozen = freeze(value, 1)
    except ConfigError as error:
        raise ConfigError(f"{cls.__name__}: {name} {error}") from None
    fitted = _fitted(frozen, hint)
    if fitted is _NO:
        plain = isinstance(hint, type) and not typing.get_args(hint)
        expected = hint.__name__ if plain else str(hint)
        raise ConfigError(f"{cls.__name__}: {name} must be {expected}, got {shown(frozen)}")
    return fitted


_NO = object()


def _fitted(value: Any, hint: Any) -> Any:
    """A frozen value as the type `hint`, down to the items of a tuple or FrozenDict; or `_NO`."""
    kind, inside = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Any:
        return value
    if kind in (typing.Union, types.UnionType):
        exact = [
            option for option in inside if type(value) is (typing.get_origin(option) or option)
        ]
        return next((v for o in (*exact, *inside) if (v := _fitted(value, o)) is not _NO), _NO)
    if kind is int:
        whole = type(value) is float and value.is_integer() and abs(value) < _EXACT
        return int(value) if whole or type(value) is int else _NO
    if kind is float:
        return _number(value)
    if kind in (bool, str):
        return value if type(value) is kind else _NO
    if not isinstance(value, kind):
        return _NO
    if not inside or kind not in (tuple, FrozenDict):
        return value
    option = [option for option in inside if option is not Ellipsis][-1]
    keys, items = ((), value) if kind is tuple else (value.keys(), value.values())
    fitted = [_fitted(item, option) for item in items]
    if any(item is _NO for item in fitted):
        return _NO
    return tuple(fitted) if kind is tuple else FrozenDict(zip(keys, fitted, strict=True))


def _number(value: Any) -> Any:
    if type(value) not in (int, float, str):
        return _NO
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return _NO
    return number if math.isfinite(number) else _NO
