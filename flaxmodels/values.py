"""Values of JSON files: read, checked against types and ranges, made immutable and back."""

import contextlib
import dataclasses
import functools
import math
import os
import stat
import types
import typing
from collections.abc import Mapping
from typing import Any

from flax.core import FrozenDict

from .params import strict_json

MAX_CONFIG_BYTES = 16 << 20
_MAX_VALUES = 250_000  # a million take ten seconds
_MAX_DEPTH = 64  # far from where Python cannot compare two that are equal


class ConfigError(ValueError):
    """A configuration that names a field this library cannot honour, or a value that is none."""


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """A JSON object from a file of at most 16 MiB; no duplicate keys, no NaN.

    Raises:
        ConfigError: with the file's name.
    """
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"{path}: not a regular file")
        if info.st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: {info.st_size} bytes; a configuration has at most 16 MiB")
        with open(path, "rb") as file:
            value = strict_json.loads(file.read(), _MAX_VALUES)
    except (OSError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def out_of_range(name: str, value: Any) -> str | None:
    """What is wrong with a field's value, by the kind of quantity that its name says it is."""
    if name.endswith(("_size", "_dim", "position_embeddings")) or name.startswith(("num_", "n_")):
        return None if 0 < value < 1 << 31 else "it must be positive and below 2**31"
    if name.endswith(("_eps", "_epsilon")):
        return None if value > 0 else "it must be positive"
    if "drop" in name:
        return None if 0 <= value <= 1 else "it must be a probability"
    if name == "initializer_range":
        return None if value >= 0 else "it must not be negative"
    return None


def is_deep(value: Any) -> bool:
    """Whether a decoded JSON value is nested more than 64 deep."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        parts = (v.values() if isinstance(v, Mapping) else v for v in level)
        level = [v for part in parts for v in part if isinstance(v, Mapping | list | tuple)]
    return bool(level)


def freeze(value: Any) -> Any:
    """A decoded JSON value with mappings and lists made immutable and hashable."""
    if isinstance(value, Mapping):
        return FrozenDict({str(key): freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """The inverse of `freeze`, up to the type of keys: what `json.dumps` takes."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    return value


@functools.cache
def hints_of(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def checked(cls: type, name: str, value: Any, hint: Any) -> Any:
    """`value` if it is what `hint` says; an int, or the text of a number, serves as a float."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    if any(_is(value, option) for option in options):
        return value
    if float in options and type(value) in (int, str):
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
    expected = str(hint) if union or typing.get_args(hint) else hint.__name__
    raise ConfigError(f"{cls.__name__}: {name} must be {expected}, got {value!r:.200}")


def _is(value: Any, hint: Any) -> bool:
    """Whether `value` is exactly of type `hint`, down to the items of a tuple or FrozenDict."""
    kind, inside = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Any:
        return True
    if kind is float:
        return type(value) is float and math.isfinite(value)
    if kind in (int, bool, str):
        return type(value) is kind
    if not isinstance(value, kind):
        return False
    items = value.values() if isinstance(value, Mapping) else value if kind is tuple else ()
    wanted = [option for option in inside if option is not Ellipsis][-1:]
    return all(_is(item, option) for option in wanted for item in items)
