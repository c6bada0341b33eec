"""Arguments that are one number, or yes or no."""

import operator

import numpy as np


def whole(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """Returns an argument that is a whole number from `least` to `most`.

    >>> whole("batch_size", np.int64(8))
    8

    Raises:
        TypeError, ValueError: it is none; `name` says which argument.
    """
    number = None if isinstance(value, bool | np.bool_) else _index(value)
    if number is None:
        raise TypeError(f"{name}={value!r:.80}; expected a whole number")
    if number < least:
        raise ValueError(f"{name}={number}; expected at least {least}")
    if most is not None and number > most:
        raise ValueError(f"{name}={number}; expected at most {most}")
    return number


def flag(name: str, value: object) -> bool:
    """Returns an argument that is True or False; a text such as "no" would count as True.

    Raises:
        TypeError: it is neither; `name` says which argument.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name}={value!r:.80}; expected True or False")


def _index(value: object) -> int | None:
    try:
        return operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:  # and of a traced number, which is an error of its own
        return None
