"""Arguments that are one whole number, or yes or no: one check, and one message, for all rooms."""

import operator
from typing import Any

import numpy as np
from jax.core import Tracer


class WrongKind(TypeError, ValueError):
    """An argument of another kind than expected, such as a text; `except` of either catches it."""


def wrong_kind(name: str, value: object, expected: str) -> WrongKind:
    """Returns the error of an argument that is not what is `expected`."""
    got = "traced; it must be static" if isinstance(value, Tracer) else f"{value!r:.80}"
    return WrongKind(f"{name} is {got}; expected {expected}")


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Returns an argument that is a whole number from `least` to `most`, as Python's.

    >>> whole("batch_size", np.int64(8))
    8

    Raises:
        WrongKind: it is none, such as a bool, or it is traced; `name` says which argument.
        ValueError: it is out of range.
    """
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:  # and of a traced number, which is an error of its own
        number = None
    if number is None:
        raise wrong_kind(name, value, "a whole number")
    if number < least:
        raise ValueError(f"{name} is {number}; expected at least {least}")
    if most is not None and number > most:
        raise ValueError(f"{name} is {number}; expected at most {most}")
    return number


def flag(name: str, value: object) -> bool:
    """Returns an argument that is True or False; a text such as "no" would count as True.

    Raises:
        WrongKind: it is neither, or it is traced; `name` says which argument.
    """
    if not isinstance(value, bool | np.bool_):
        raise wrong_kind(name, value, "True or False")
    return bool(value)
