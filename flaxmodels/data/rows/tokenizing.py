"""Texts of a dataset's rows as tokens."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ...text import Tokenizer
from .sources import Row

Tokenizes: TypeAlias = Tokenizer | Callable[..., Any]
"""One of `fm.load_tokenizer` or of Transformers; or a function of texts, or of two lists of them
for pairs, that returns rows of ids, or {column: rows}."""


@dataclasses.dataclass(frozen=True)
class Texts:
    """Which columns are tokenised, and by what.

    Attributes:
        first, second: the columns of a text, or of a pair.
        target: the column of what a decoder is to say.
        answers: the tokenizer of that column.
        unless: the column of ids that stands for texts where rows have it.
    """

    tokenizer: Tokenizes
    first: str
    second: str | None = None
    target: str | None = None
    answers: Tokenizes | None = None
    unless: str | None = None

    def read_of(self, row: Row) -> tuple[str, ...]:
        """Returns the columns that are tokenised of rows with the columns of this one."""
        if self.unless in row:
            return ()
        return tuple(x for x in (self.first, self.second, self.target) if x is not None)

    def encode(self, rows: Sequence[Row], limit: int | None) -> list[Row]:
        """Returns rows with the columns that the tokenizer makes in the place of texts."""
        if self.unless in rows[0]:
            return list(rows)
        seconds = None if self.second is None else _texts(rows, self.second)
        made = encoded(self.tokenizer, _texts(rows, self.first), seconds, limit)
        if self.target is not None and self.answers is not None:
            answers = encoded(self.answers, _texts(rows, self.target), None, limit)
            for row, answer in zip(made, answers, strict=True):
                row["labels"] = answer["input_ids"]
        texts = {self.first, self.second, self.target}
        others = [{name: x for name, x in row.items() if name not in texts} for row in rows]
        return [other | new for other, new in zip(others, made, strict=True)]


def check_tokenizer(tokenizer: object) -> None:
    """Raises `TypeError` for what is no tokenizer."""
    if not callable(tokenizer):
        raise TypeError(
            f"tokenizer is a {type(tokenizer).__name__}; expected one of fm.load_tokenizer, or a "
            "function of texts that returns rows of ids"
        )


def encoded(
    tokenizer: Tokenizes, firsts: list[str], seconds: list[str] | None, limit: int | None
) -> list[Row]:
    """Tokenises texts, or pairs of them -> a row of columns each; `limit` is told to a tokenizer
    that is none of a user's own functions.

    Raises:
        TypeError: what is no rows of ids.
        ValueError: another number of rows than of texts.
    """
    if isinstance(tokenizer, Tokenizer):
        rows = tokenizer.encode_rows(firsts, seconds, max_length=limit)
        if not tokenizer.gives_token_types:
            return [{"input_ids": ids} for ids, _ in rows]
        return [{"input_ids": ids, "token_type_ids": types} for ids, types in rows]
    texts = (firsts,) if seconds is None else (firsts, seconds)
    cut = limit is not None and hasattr(tokenizer, "pad")  # a tokenizer of Transformers
    made = tokenizer(*texts, **({"truncation": True, "max_length": limit} if cut else {}))
    is_table = isinstance(made, Mapping) or hasattr(made, "keys")  # a BatchEncoding is no Mapping
    columns = dict(made) if is_table else {"input_ids": made}
    if odd := [name for name, values in columns.items() if not hasattr(values, "__len__")]:
        kind = type(columns[odd[0]]).__name__
        raise TypeError(f"the tokenizer made a {kind} of {odd[0]}; expected a row for each text")
    if odd := [name for name, values in columns.items() if len(values) != len(firsts)]:
        raise ValueError(
            f"the tokenizer made {len(columns[odd[0]])} rows of {odd[0]} out of {len(firsts)} "
            "texts; expected a row for each"
        )
    return [{name: values[i] for name, values in columns.items()} for i in range(len(firsts))]


def _texts(rows: Sequence[Row], name: str) -> list[str]:
    for row in rows:
        if not isinstance(row.get(name), str):
            there = f"is a {type(row[name]).__name__}" if name in row else "is not there"
            raise ValueError(
                f"column {name!r} of a row {there}; expected a text (columns: {', '.join(row)})"
            )
    return [row[name] for row in rows]
