"""Batches that a model cannot read, refused before a program reads other rows, or makes NaN."""

from typing import NamedTuple

import numpy as np

from ..core.head_kinds import label_count, vocab_size_of
from ..core.model import Model
from .collate import IGNORED, Batch


class Ranges(NamedTuple):
    """How large numbers of a column may be.

    Attributes:
        ids: tokens of the model.
        labels: how many labels there are; None where they are not counted.
    """

    ids: int | None
    labels: int | None

    @classmethod
    def of(cls, model: Model) -> "Ranges":
        """Reads them off a model."""
        return cls(vocab_size_of(model), label_count(model))

    def check(self, batch: Batch) -> None:
        """Raises `ValueError` for an id or a label that there is not, with its place."""
        for name in ("input_ids", "decoder_input_ids"):
            self._check(batch, name, self.ids, "the model has the tokens", None)
        for name in ("labels", "shift_labels"):
            if name in batch and batch[name].dtype.kind in "iu":
                self._check(batch, name, self.labels, "the labels are", IGNORED)

    def _check(
        self, batch: Batch, name: str, count: int | None, what: str, ignored: int | None
    ) -> None:
        x = batch.get(name)
        if x is None or count is None or x.size == 0:
            return
        if x.dtype.kind not in "iu":
            raise ValueError(f"{name} is {x.dtype}; expected whole numbers")
        if x.min() >= 0 and x.max() < count:
            return
        odd = (x < 0) | (x >= count)
        if ignored is not None:
            odd &= x != ignored
        if not odd.any():
            return
        place = [int(i) for i in np.argwhere(odd)[0]]
        also = "" if ignored is None else f", and {ignored} where there is none"
        raise ValueError(
            f"{name}{place} of a batch is {x[tuple(place)]}; {what} 0 to {count - 1}{also}"
        )
