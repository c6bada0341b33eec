"""Rows of ids as arrays: how long they become, and where padding goes."""

from collections.abc import Iterable, Mapping, Set

import numpy as np
from jax.core import Tracer

from ..params import scalars

_MOST = 2**31 - 1


def texts_of(values: object, name: str = "texts") -> list[str]:
    """Returns texts as a list.

    Raises:
        TypeError: what is no list of texts: a set and a mapping have no order to be relied on.
    """
    if isinstance(values, bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is {type(values).__name__}; expected a text, or a list of them")
    return [text_of(value) for value in values]


def text_of(value: object) -> str:
    """Returns a text; raises TypeError for what is none."""
    if not isinstance(value, str):
        raise TypeError(f"a text is {type(value).__name__}; expected str")
    return value


def length_of(name: str, value: object) -> int | None:
    """Returns a number of tokens that a caller gives; None where none is given.

    Raises:
        TypeError: no whole number.
        ValueError: one below 1, or beyond any array.
    """
    return None if value is None else scalars.whole(name, value, most=_MOST)


def common_length(
    rows: list[list[int]],
    padding: bool | str,
    pad_to: int | None,
    multiple: int | None,
    longest: int | None,
) -> int:
    """Returns the length of an array for rows.

    Args:
        padding: True, "longest", "max_length", or False.
        pad_to: the length, if that is given.
        multiple: what the length is rounded up to.
        longest: of "max_length".

    Raises:
        ValueError: a row longer than `pad_to`, rows of several lengths without padding, or
            arguments that contradict each other.
    """
    if padding is False and not (pad_to is None and multiple is None):
        raise ValueError("padding=False, and pad_to or pad_to_multiple_of pads: give one of them")
    if padding not in (True, False, "longest", "max_length"):
        raise ValueError(f'padding={padding!r}; expected True, False, "longest" or "max_length"')
    length = max(map(len, rows), default=0)
    if pad_to is not None:
        if length > pad_to:
            raise ValueError(
                f"a text has {length} tokens, more than pad_to={pad_to}: give max_length={pad_to} "
                "to cut it, or a larger pad_to"
            )
        length = pad_to
    elif padding == "max_length":
        length = max(length, longest or 0)
    elif padding is False and min(map(len, rows), default=0) < length:
        raise ValueError(
            f"rows have {sorted({len(row) for row in rows})} tokens, and padding=False: an array "
            "has rows of one length"
        )
    return length if multiple is None else -(-length // multiple) * multiple


def filled(
    rows: list[list[int]], length: int, side: str, value: int
) -> tuple[np.ndarray, np.ndarray]:
    """Puts rows into an array, padded with `value` on a side -> the array, and 1 where there are
    tokens, both int32 [B, length].

    Raises:
        ValueError: a side that is none.
    """
    if side not in ("left", "right"):
        raise ValueError(f"padding_side={side!r}; expected left or right")
    array = np.full((len(rows), length), value, np.int32)
    mask = np.zeros_like(array)
    for i, row in enumerate(rows):
        place = slice(length - len(row), None) if side == "left" else slice(len(row))
        array[i, place], mask[i, place] = row, 1
    return array, mask


def listed(ids: object) -> list[int]:
    """Returns the ids of one text, int [T], as a list.

    Raises:
        TypeError: ids that are no whole numbers.
        ValueError: a batch, or negative ids.
    """
    if isinstance(ids, Tracer):
        raise TypeError(
            "ids are under a JAX transformation (jit, vmap, ...), where nobody knows them: decode "
            "what the function returns"
        )
    array = np.asarray(ids)
    if array.size == 0:
        return []
    if array.dtype.kind not in "iu":
        raise TypeError(f"ids are {array.dtype}; expected whole numbers")
    if array.ndim != 1:
        raise ValueError(f"ids have shape {array.shape}; expected [T]: batch_decode takes [B, T]")
    if array.min() < 0:
        raise ValueError(f"ids hold {array.min()}; expected no negative ones")
    if array.max() > _MOST:
        raise ValueError(f"ids hold {array.max()}; expected at most {_MOST}, as int32 has")
    return array.tolist()
