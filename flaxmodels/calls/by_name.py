"""Tables in which several names share a row."""

from collections.abc import Mapping
from typing import TypeVar

Row = TypeVar("Row")


def by_name(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Returns {name: row} of {"name name ...": row}.

    >>> by_name({"a b": 1, "c": 2})
    {'a': 1, 'b': 1, 'c': 2}
    """
    return {name: row for names, row in rows.items() for name in names.split()}
