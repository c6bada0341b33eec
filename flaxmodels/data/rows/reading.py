"""From a dataset's rows to a model's: tokenised, without other columns, cut, with labels."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..collate import IGNORED, whole_numbers
from .columns import Columns
from .masking import Masking
from .sources import Row
from .tokenizing import Texts

_OF_TOKENS = ("attention_mask", "token_type_ids", "position_ids", "special_tokens_mask")
_OF_TOKENS += ("labels", "label_ids", "shift_labels", "segment_ids")
_LABELS = ("labels", "label_ids", "shift_labels")
_OF_DECODER = ("labels", "label_ids", "decoder_input_ids", "decoder_attention_mask")


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
        labels_tokens: whether each token has a label of its own.
    """

    columns: Columns
    texts: Texts | None = None
    limit: int | None = None
    next_tokens: str | None = None
    masking: Masking | None = None
    unpads: bool = False
    of_decoder: bool = False
    labels_tokens: bool = False

    def read(self, rows: Sequence[Row]) -> list[Row]:
        """Returns the rows of a model, without what is drawn anew in each epoch."""
        rows = rows if self.texts is None else self.texts.encode(rows, self.limit)
        keep = self.columns.kept(rows[0])
        if self.masking is not None and "special_tokens_mask" in rows[0]:
            keep = (*keep, "special_tokens_mask")
        given, rows = rows, [{name: row[name] for name in keep if name in row} for row in rows]
        alike = ("attention_mask", *(_LABELS if self.labels_tokens else ()))
        for whole, row in zip(given, rows, strict=True):
            _check(row, "input_ids" in keep, alike)
            if more := [name for name in whole.keys() - {*keep} if name in self.columns]:
                raise ValueError(
                    f"a row has the column {more[0]!r}, and the first of them has not: "
                    f"{', '.join(keep)}; give it to all of them, or to none"
                )
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


def _check(row: Row, has_ids: bool, alike: Sequence[str]) -> None:
    """Raises `ValueError` for a row without the tokens that others have, or with columns that are
    `alike`, and have more or fewer numbers."""
    if "input_ids" not in row:
        if has_ids:
            has = ", ".join(map(str, row)) or "none"
            raise ValueError(f"a row has no column 'input_ids', and others have; it has {has}")
        return
    ids = row["input_ids"]
    if not hasattr(ids, "__len__") or getattr(ids, "ndim", 1) == 0 or isinstance(ids, str | bytes):
        raise ValueError(f"input_ids of a row are {ids!r:.80}; expected whole numbers, as [3, 5]")
    for name in alike:
        x = row.get(name)
        if x is not None and (not hasattr(x, "__len__") or len(x) != len(ids)):
            raise ValueError(
                f"{name} of a row is {x!r:.80}, and the row has {len(ids)} input_ids; expected a "
                "number for each"
            )


def _with_labels(row: Row, how: str) -> Row:
    """Adds the labels of a causal LM, the tokens themselves, to a row that has none."""
    if {"labels", "label_ids", "shift_labels"} & row.keys() or "input_ids" not in row:
        return row
    labels = np.array(whole_numbers(row["input_ids"], "input_ids of a row are"))
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
