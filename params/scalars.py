"""Arguments that are one whole number, or yes or no: one check, and one message, for all rooms."""

import operator

import numpy as np
from jax.core import Tracer


class WrongKind(TypeError, ValueError):
    """An argument of another kind than expected, such as a text; `except` of either catches it."""


def whole(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """Returns an argument that is a whole number from `least` to `most`, as Python's.

    >>> whole("batch_size", np.int64(8))
    8

    Raises:
        WrongKind: it is none, such as a bool, or it is traced; `name` says which argument.
        ValueError: it is out of range.
    """
    number = None if isinstance(value, bool | np.bool_) else _index(value)
    if number is None:
        raise WrongKind(f"{name} is {value!r:.80}; expected a whole number")
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
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Tracer):
        raise WrongKind(f"{name} is traced; it must be static: True or False")
    raise WrongKind(f"{name} is {value!r:.80}; expected True or False")


def _index(value: object) -> int | None:
    try:
        return operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:  # and of a traced number, which is an error of its own
        return None
