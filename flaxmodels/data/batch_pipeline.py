"""From rows to a batch: grouped, collated, checked, filled up, and put where it goes."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..core.head_kinds import LABELS
from . import grouping
from .checks import Ranges
from .collate import IGNORED, Batch, Placed
from .grouping import Group
from .packing import Packs
from .placing import Placement
from .rows.columns import Columns
from .rows.sources import Row

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of batches.

    Attributes:
        batch_size: rows of a batch, on all devices together.
        drop_remainder: whether a last batch that is not full is left out.
        collate: (rows, the length to pad to or None) -> arrays.
        is_by_rows: whether `collate` makes of a row, and a length, what it makes of it among
            others.
        columns: what a batch may hold.
        ranges: what its numbers may be.
        lengths: to which rows are padded, from short to long; None for those of each batch's
            longest row.
        packs: None where a row of a batch is one of the dataset.
        placement: None for NumPy arrays, of all rows.
        first_position: the position of a first token, where padding stands before it and
            `position_ids` are to say so; None where they are not.
    """

    batch_size: int
    drop_remainder: bool
    collate: Callable[[Sequence[Row], int | None], Batch]
    is_by_rows: bool
    columns: Columns
    ranges: Ranges
    lengths: tuple[int, ...] | None = None
    packs: Packs | None = None
    placement: Placement | None = None
    first_position: int | None = None

    @property
    def is_measured(self) -> bool:
        """Whether it depends on the lengths of rows which of them make a batch."""
        return self.packs is not None or len(self.lengths or ()) > 1

    def groups(self, items: Iterable[tuple[T, int]]) -> Iterator[Group[T]]:
        """Groups items, (what a row is known by, its tokens), into batches."""
        if self.packs is not None:
            groups = grouping.packed(items, self.batch_size, self.packs.length)
        elif self.lengths is not None and len(self.lengths) > 1:
            groups = grouping.by_length(items, self.batch_size, self.lengths)
        else:
            length = self.lengths[0] if self.lengths else None
            rows = (item for item, _ in items)
            groups = grouping.one_after_another(rows, self.batch_size, length)
        for group in groups:
            if len(group.rows) == self.batch_size or not self.drop_remainder:
                yield group

    def rows_read(self, size: int, length: int | None, *, rectangular: bool) -> list[int]:
        """Returns which of `size` rows of a batch this process reads: its own, where what is made
        of them does not depend on others."""
        alike = self.is_by_rows and (length is not None or rectangular)
        if self.placement is None or not alike:
            return [*range(size)]
        return self.placement.rows(size)

    def filled_up(self, group: Group[T]) -> Group[T]:
        """Returns a group that is not full filled up by its first row, for a mesh; `batch` makes
        that no loss counts them."""
        missing = self.batch_size - len(group.rows)
        if self.placement is None or not missing:
            return group
        return group._replace(rows=group.rows + [group.rows[0]] * missing)

    def batch(
        self, rows: Sequence[Sequence[Row]], read: Sequence[int], real: int, length: int | None
    ) -> Placed:
        """Makes a batch.

        Args:
            rows: of the rows `read` of the batch, those of the dataset that are in each.
            real: rows of the batch that do not fill it up.
            length: that is padded to, or None.
        """
        batch = self._arrays(rows, length)
        shapes = {name: x.shape for name, x in batch.items()}
        if any(shape[:1] != (len(read),) for shape in shapes.values()):
            raise ValueError(
                f"{len(read)} rows were collated to arrays of shapes {shapes}; expected the rows "
                "along the first axis of each"
            )
        filler = [i for i, b in enumerate(read) if b >= real]
        if filler:
            _ignore(batch, filler)
        if self.placement is None:
            return batch
        size = max(real, self.batch_size)
        own = self.placement.rows(size)
        if own != list(read):
            places = {b: i for i, b in enumerate(read)}
            mine = [places[b] for b in own]
            batch = {name: x[mine] for name, x in batch.items()}
        return dict(self.placement.put(batch, own, size))

    def _arrays(self, rows: Sequence[Sequence[Row]], length: int | None) -> Batch:
        if self.packs is not None:
            batch = self.packs.batch(rows)
        else:
            batch = self.collate([row for (row,) in rows], length)
            names = ", ".join(map(str, batch))
            batch = {name: _small(name, x) for name, x in batch.items() if name in self.columns}
            if not batch:
                raise ValueError(
                    f"rows were collated to {names or 'nothing'}, of which the model "
                    f"takes none: it takes {', '.join(sorted(self.columns.inputs))}"
                )
            batch = self._with_positions(batch)
        self.ranges.check(batch)
        return batch

    def _with_positions(self, batch: Batch) -> Batch:
        """Adds positions that begin where padding ends."""
        mask = batch.get("attention_mask")
        if self.first_position is None or mask is None or "position_ids" in batch:
            return batch
        places = np.maximum(np.cumsum(mask, axis=-1) - 1, 0) + self.first_position
        return batch | {"position_ids": places.astype(np.int32)}


def _small(name: str, x: ArrayLike) -> np.ndarray:
    """Returns whole numbers as int32 and others as float32, where they have 64 bits."""
    try:
        x = np.asarray(x)
    except ValueError:
        raise ValueError(f"column {name!r} of a batch has rows of different lengths") from None
    if x.dtype.kind not in "iufb":
        raise TypeError(f"column {name!r} of a batch is {x.dtype}; expected numbers")
    if x.dtype in (np.int64, np.uint64):
        if x.size and (x.max() > np.iinfo(np.int32).max or x.min() < np.iinfo(np.int32).min):
            raise ValueError(f"column {name!r} holds {x.max()}, which is no int32")
        return x.astype(np.int32)
    if not x.size and name.endswith("input_ids"):  # of no number NumPy makes a fraction
        return x.astype(np.int32)
    return x.astype(np.float32) if x.dtype == np.float64 else x


def _ignore(batch: Batch, rows: list[int]) -> None:
    """Makes labels of rows ones that do not count."""
    length = batch["input_ids"].shape[1] if "input_ids" in batch else np.iinfo(np.int32).max
    for name in sorted(LABELS & batch.keys()):
        if batch[name].dtype.kind == "f":
            raise ValueError(
                f"the last batch is not full, and {name} are numbers with fractions, of which none "
                "is ignored: give drop_remainder=True, or a batch_size that divides the dataset"
            )
        batch[name] = np.array(batch[name])
        # an answer after the text does not count
        batch[name][rows] = length if "position" in name else IGNORED
