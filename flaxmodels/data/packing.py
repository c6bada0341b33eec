"""Packed rows: several rows of a dataset in one of a batch, which do not see each other.

Source: Krell et al. 2021, arXiv:2107.02027.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from .collate import IGNORED, LABEL_COLUMNS, Batch
from .rows.sources import Row

_PADDING = dict.fromkeys(LABEL_COLUMNS, IGNORED) | {"token_type_ids": 0}


@dataclasses.dataclass(frozen=True)
class Packs:
    """How rows are packed.

    Attributes:
        length: T, tokens of a packed row.
        pad: the id of padding.
        shifted: whether the label of a token is predicted at the token before it, as by a causal
            LM: that of a segment's first token is then ignored.
        first: the position of a segment's first token, for `position_ids`; None for none.
        splits: whether rows that are longer become several.
    """

    length: int
    pad: int
    shifted: bool
    first: int | None
    splits: bool = False

    def batch(self, rows: Sequence[Sequence[Row]]) -> Batch:
        """Writes rows of a dataset one behind the other -> {column: int32 [B, T]}: their columns,
        and `segment_ids`, from 1 in each row of the batch and 0 for padding.

        Args:
            rows: of each row of the batch, those that are in it, without padding.

        Raises:
            ValueError: a column that has no value a token.
        """
        names = [name for name in rows[0][0] if name not in ("attention_mask", "position_ids")]
        values = {name: _PADDING.get(name, self.pad) for name in names}
        batch = {
            n: np.full((len(rows), self.length), value, np.int32) for n, value in values.items()
        }
        segments = np.zeros((len(rows), self.length), np.int32)
        places = np.zeros_like(segments)
        for b, pieces in enumerate(rows):
            start = 0
            for number, piece in enumerate(pieces, 1):
                count = len(piece["input_ids"])
                span = slice(start, start + count)
                for name in names:
                    batch[name][b, span] = _of_tokens(name, piece, count)
                if self.shifted and count and "labels" in batch:
                    batch["labels"][b, start] = IGNORED
                segments[b, span] = number
                places[b, span] = np.arange(count) + (self.first or 0)
                start += count
        if "label_ids" in batch:
            batch["labels"] = batch.pop("label_ids")
        return (
            batch
            | {"segment_ids": segments}
            | ({} if self.first is None else {"position_ids": places})
        )


def _of_tokens(name: str, row: Row, count: int) -> np.ndarray:
    if np.shape(values := row[name]) != (count,):
        raise ValueError(
            f"pack=True: column {name!r} of a row has shape {np.shape(values)}, and its input_ids "
            f"({count},); rows that are packed have a value for each token"
        )
    return np.asarray(values)
