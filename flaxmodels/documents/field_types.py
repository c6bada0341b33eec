"""Values of fields: converted to the type that a dataclass declares, and held to a range."""

import dataclasses
import functools
import math
import types
import typing
from typing import Any

from flax.core import FrozenDict

from .json_values import ConfigError, Json, freeze, shown

_EXACT = 2.0**53  # below it every integer is a float of its own


@functools.cache
def hints_of(cls: type) -> dict[str, Json]:
    """Returns {name: type} of a dataclass's fields."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def checked(cls: type, name: str, value: object, hint: Any) -> Json:
    """Converts the value of a field, from a file or from a caller, to the type `hint`.

    After `freeze`, an integer serves as a float, a whole float as an integer (JSON has one kind of
    number: 4096, 4096.0 and 4.096e3), and the text of a number as a float (1e-5 is text to YAML's
    readers, so real files have it). Nothing else is converted.

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


def _fitted(value: Json, hint: Any) -> Json:
    """Converts a frozen value to the type `hint`, with the items of a tuple or FrozenDict; returns
    `_NO` where it does not fit."""
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


def _number(value: Json) -> Json:
    if type(value) not in (int, float, str):
        return _NO
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return _NO
    return number if math.isfinite(number) else _NO


def out_of_range(name: str, value: Json) -> str | None:
    """Returns what is wrong with a field's value, by the kind of quantity that its name tells."""
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
