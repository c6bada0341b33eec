"""From a dataset's rows to a model's: tokenised, without other columns, cut, with labels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..collate import IGNORED
from .columns import Columns
from .masking import Masking
from .sources import Row

_OF_TOKENS = ("attention_mask", "token_type_ids", "position_ids", "special_tokens_mask")
_OF_TOKENS += ("labels", "label_ids", "shift_labels", "segment_ids")
_OF_DECODER = ("labels", "label_ids", "decoder_input_ids", "decoder_attention_mask")


@dataclasses.dataclass(frozen=True)
class Texts:
    """Which columns are tokenised, and by what.

    Attributes:
        tokenizer: one of `fm.load_tokenizer`, or a function of texts, or of two lists of them for
            pairs, that returns rows of ids, or {column: rows}.
        first, second: the columns of a text, or of a pair.
        target: the column of what a decoder is to say.
        answers: the tokenizer of that column.
        unless: the column of ids that stands for texts where rows have it.
    """

    tokenizer: Any
    first: str
    second: str | None = None
    target: str | None = None
    answers: Any = None
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
        if self.target is not None:
            answers = encoded(self.answers, _texts(rows, self.target), None, limit)
            for row, answer in zip(made, answers, strict=True):
                row["labels"] = answer["input_ids"]
        texts = {self.first, self.second, self.target}
        others = [{name: x for name, x in row.items() if name not in texts} for row in rows]
        return [other | new for other, new in zip(others, made, strict=True)]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Makes rows that can be collated.

    Attributes:
        columns: what is kept.
        texts: None where rows have ids already.
        limit: tokens that a row has at most; longer ones are cut at their end.
        next_tokens: of a language model from left to right, what `labels` are made of `input_ids`
            where there are none: "shifted" by the loss, or "aligned", the token after each; None
            for no labels.
        masking: what makes `labels` of a masked LM; None for nothing.
        unpads: whether tokens that `attention_mask` says are padding are left out.
        of_decoder: whether labels are a decoder's tokens, with a length of their own.
    """

    columns: Columns
    texts: Texts | None = None
    limit: int | None = None
    next_tokens: str | None = None
    masking: Masking | None = None
    unpads: bool = False
    of_decoder: bool = False

    def read(self, rows: Sequence[Row]) -> list[Row]:
        """Returns the rows of a model, without what is drawn anew in each epoch."""
        rows = rows if self.texts is None else self.texts.encode(rows, self.limit)
        keep = self.columns.kept(rows[0])
        if self.masking is not None and "special_tokens_mask" in rows[0]:
            keep = (*keep, "special_tokens_mask")
        rows = [{name: row[name] for name in keep if name in row} for row in rows]
        rows = [self._cut(unpadded(row) if self.unpads else row) for row in rows]
        if self.next_tokens is not None:
            rows = [_with_labels(row, self.next_tokens) for row in rows]
        return rows

    def drawn(
        self, rows: Sequence[Row], keys: tuple[int, ...], indices: Sequence[int]
    ) -> Sequence[Row]:
        """Returns rows that were read as an epoch has them: tokens that are masked are drawn by the
        epoch's keys and the places of rows in the dataset, `indices`."""
        return rows if self.masking is None else self.masking.masked(rows, keys, indices)

    def _cut(self, row: Row) -> Row:
        if self.limit is None:
            return row
        ids = row.get("input_ids", ())
        count, limit = len(ids), self.limit
        names = _OF_TOKENS if not self.of_decoder else _OF_TOKENS[:4]
        cut = {}
        if count > limit and np.ndim(ids[0]) == 0:
            alike = [n for n in names if np.ndim(row.get(n, 0)) == 1 and len(row[n]) == count]
            cut = {name: row[name][:limit] for name in ("input_ids", *alike)}
        if self.of_decoder:
            long = [name for name in _OF_DECODER if len(row.get(name, ())) > limit]
            cut |= {name: row[name][:limit] for name in long}
        return row | cut


def _with_labels(row: Row, how: str) -> Row:
    """Adds the labels of a causal LM, the tokens themselves, to a row that has none."""
    if {"labels", "label_ids", "shift_labels"} & row.keys() or "input_ids" not in row:
        return row
    labels = np.array(row["input_ids"], np.int64)
    if (mask := row.get("attention_mask")) is not None:
        labels[np.asarray(mask) == 0] = IGNORED
    if how == "aligned":
        labels = np.append(labels[1:], IGNORED)
    return row | {"labels": labels}


def piece_of(row: Row, start: int, length: int) -> Row:
    """Returns at most `length` tokens of a row, from the token `start` on."""
    count = len(row["input_ids"])
    alike = [name for name, x in row.items() if np.shape(x) == (count,)]
    return row | {name: row[name][start : start + length] for name in alike}


def unpadded(row: Row) -> Row:
    """Returns a row without the tokens that its `attention_mask` says are padding."""
    if (mask := row.get("attention_mask")) is None:
        return row
    there = np.asarray(mask) != 0
    alike = [name for name, x in row.items() if np.shape(x) == there.shape]
    return row | {name: np.asarray(row[name])[there] for name in alike}


def encoded(
    tokenizer: Any, firsts: list[str], seconds: list[str] | None, limit: int | None
) -> list[Row]:
    """Tokenises texts, or pairs of them -> a row of columns each; `limit` is told to a tokenizer
    that is none of a user's own functions.

    Raises:
        TypeError: what is no tokenizer.
        ValueError: another number of rows than of texts.
    """
    if hasattr(tokenizer, "encode_rows"):
        rows = tokenizer.encode_rows(firsts, seconds, max_length=limit)
        if not tokenizer.gives_token_types:
            return [{"input_ids": ids} for ids, _ in rows]
        return [{"input_ids": ids, "token_type_ids": types} for ids, types in rows]
    if not callable(tokenizer):
        raise TypeError(
            f"tokenizer is a {type(tokenizer).__name__}; expected one of fm.load_tokenizer, or a "
            "function of texts that returns rows of ids"
        )
    texts = (firsts,) if seconds is None else (firsts, seconds)
    cut = limit is not None and hasattr(tokenizer, "pad")  # a tokenizer of Transformers
    made: Any = tokenizer(*texts, **({"truncation": True, "max_length": limit} if cut else {}))
    is_table = isinstance(made, Mapping) or hasattr(made, "keys")  # a BatchEncoding is no Mapping
    columns: dict[str, Any] = dict(made) if is_table else {"input_ids": made}
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
