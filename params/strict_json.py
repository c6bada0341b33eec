"""JSON as the standard has it, where Python's reader is lenient: for files from strangers."""

import json
from typing import Any

from .errors import quoted

MAX_VALUES = 2_000_000  # 100 MB of brackets would take ten seconds, and a gigabyte


def loads(raw: bytes, most: int = MAX_VALUES) -> Any:
    """Decodes one document of at most `most` values, as commas tell.

    Raises:
        ValueError: not UTF-8, a key twice, NaN or Infinity, half of a surrogate pair, a number of
            thousands of digits, nesting that is too deep, or too many values.

    >>> loads(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    if raw.count(b",") >= most:
        raise ValueError(f"more than {most} values")
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"key {quoted(name)} appears twice")
        for text in (name, value):
            if isinstance(text, str):
                text.encode()  # half of a surrogate pair has no UTF-8
        values[name] = value
    return values


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
