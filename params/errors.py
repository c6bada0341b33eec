"""Errors and warnings: their texts are safe to print, and warnings point at the caller's line."""

import sys
import warnings
from collections.abc import Sequence

LONGEST_TEXT = 4000  # characters of an error or a warning
_LONGEST_NAME = 200
_INSIDE = (__name__.partition(".")[0], "flax")
_warned: set[str] = set()


class PrintableError(ValueError):
    """An error whose text may be printed with all that files and servers put into it: characters
    that a terminal would act on are escaped, and the middle of a long one is left out."""

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


class CheckpointError(PrintableError):
    """A checkpoint that cannot be read or written as asked: file, tensor, expected, got."""


def warn(message: object, category: type[Warning] = UserWarning) -> None:
    """Warns at the nearest line outside of this library, and of flax, which wraps the methods of
    models. The text may hold what files and servers say.

    Python 3.12 has `skip_file_prefixes` for it; the walk serves 3.11 too.
    """
    level, frame = 2, sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(printable(message), category, stacklevel=level)


def warn_once(message: str) -> None:
    """Warns as `warn` does, once in a process for the same message."""
    if message not in _warned:
        _warned.add(message)
        warn(message)


def printable(text: object, most: int = LONGEST_TEXT) -> str:
    """Returns a text of at most about `most` characters, all of which can be printed: control
    characters, marks that turn the direction of writing, and what is no UTF-8 are escaped.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    text = str(text)
    shown = _escaped(text[: most + 1])
    if len(text) <= most and len(shown) <= most:
        return shown
    start, end = most * 2 // 3, most // 4  # what to do about it is often said at the end
    head, tail = _escaped(text[:start])[:start], _escaped(text[-end:])[-end:]
    return f"{head} ... ({len(text)} characters) ... {tail}"


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(name: object) -> str:
    """Returns a name out of a file, safe to print: control characters escaped, at most 200
    characters."""
    text = str(name)
    shown = repr(text[:_LONGEST_NAME])
    if len(text) <= _LONGEST_NAME and len(shown) <= _LONGEST_NAME:
        return shown
    return f"{shown[: _LONGEST_NAME - 20]}... ({len(text)} characters)"


def some(names, most: int = 10) -> str:
    """Returns the first `most` names of a collection, and how many more there are."""
    names = list(names)
    shown = ", ".join(printable(name, 2 * _LONGEST_NAME) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names) - most} more)"


def first_of(found: Sequence[int], expected: Sequence[int]) -> str:
    """Returns what is to be added of a leaf's shape where old Flax has replicated it; else ""."""
    if not found or not found[0] or tuple(found[1:]) != tuple(expected):
        return ""
    return (
        f"; of {found[0]} sets of params, flax.jax_utils.unreplicate(params) or "
        "jax.tree.map(lambda x: x[0], params) is the first"
    )
