"""JSON as the standard has it, where Python's reader is lenient: for files from strangers."""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from .errors import quoted

Json: TypeAlias = Any
"""A decoded JSON value: None, a bool, an int, a float, a text, a list or tuple, a mapping."""

MAX_VALUES = 2_000_000  # 100 MB of brackets would take ten seconds, and a gigabyte


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(
    raw: bytes, most: int = MAX_VALUES, *, constants: Callable[[str], object] | None = None
) -> Json:
    """Decodes one document of at most `most` values, as commas tell.

    Args:
        constants: what Infinity, -Infinity and NaN become; they are refused if None. `1e999` is
            JSON, and infinite in any case.

    Raises:
        ValueError: not UTF-8, a key twice, NaN or Infinity, half of a surrogate pair, a number of
            thousands of digits, nesting that is too deep, or too many values.

    >>> loads(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    if raw.count(b",") >= most:
        raise ValueError(f"more than {most} values")
    try:
        value = json.loads(
            raw.decode(), object_pairs_hook=_unique, parse_constant=constants or _refuse
        )
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()  # half of a pair has no UTF-8
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError as error:
        half = quoted(error.object[error.start : error.end])
        raise ValueError(f"half of a surrogate pair, {half}: {error.reason}") from None
    return value


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    values = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"key {quoted(name)} appears twice")
        values[name] = value
    return values


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
