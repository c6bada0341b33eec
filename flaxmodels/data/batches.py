"""`Batches`: a dataset as batches of a model, at a place that can be kept and taken up again."""

import collections
import dataclasses
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Self, SupportsIndex

from ..params.errors import warn
from ..params.scalars import whole
from .collate import Placed
from .epoch_batches import Place, Rows, Streamed
from .prefetch import Ahead

_MANY_SHAPES = 16

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class Batches:
    """Gives the batches of an epoch each time it is iterated over: {name: array [B, ...]}.

    The place is `state()`. An iteration begins there, so that one which was left is taken up where
    it was left; after its end the next one is another epoch. A new iteration ends an earlier one.

    Attributes:
        batch_size: rows of a batch, on all processes together.
        columns: what is kept of the dataset's columns; () of a stream.
        dropped: what is not, since the model does not take it.
        shapes: {((name, shape), ...): how many batches}; jit compiles a program for each.
    """

    def __init__(
        self,
        made: Rows | Streamed,
        batch_size: int,
        *,
        seed: int,
        ahead: int,
        bounded: bool,
        columns: tuple[Sequence[str], Sequence[str]] = ((), ()),
    ):
        self._made, self._ahead, self._bounded = made, ahead, bounded
        self._place = Place(seed)
        self._pass: weakref.ref[Pass] | None = None
        self.batch_size = batch_size
        self.columns, self.dropped = map(tuple, columns)
        self.shapes: collections.Counter[Shapes] = collections.Counter()

    def __repr__(self) -> str:
        rows = "a stream" if isinstance(self._made, Streamed) else f"{len(self._made)} rows"
        dropped = f", dropped {', '.join(self.dropped)}" if self.dropped else ""
        return (
            f"Batches({rows}, {self.batch_size} a batch; columns {', '.join(self.columns)}"
            f"{dropped}; epoch {self._place.epoch}, position {self._place.position}; "
            f"{len(self.shapes)} shapes so far)"
        )

    def __len__(self) -> int:
        """Returns how many batches the epoch has. With several lengths, or packing, all rows are
        tokenised for it, once.

        Raises:
            TypeError: a stream: that is not known.
        """
        if isinstance(self._made, Streamed):
            raise TypeError("the dataset is a stream: how many batches it gives is not known")
        return self._made.count(self._place)

    def __iter__(self) -> "Pass":
        self._leave()
        batches = self._made.batches(self._place)
        new = Pass(self, Ahead(batches, self._ahead) if self._ahead else batches)
        self._pass = weakref.ref(new)
        return new

    def state(self) -> dict[str, int]:
        """Returns the place after the last batch that was given out, whatever was made ahead.

        Returns:
            `epoch`, `position` (batches of the epoch that were given out), `seed`; and, for
            `restore` to know other data by, `batch_size` and `rows` (-1 of a stream).
        """
        rows = -1 if isinstance(self._made, Streamed) else len(self._made)
        return {**dataclasses.asdict(self._place), "batch_size": self.batch_size, "rows": rows}

    def restore(self, state: Mapping[str, SupportsIndex]) -> Self:
        """Goes to a place: the batches that follow are those that would have come, bit for bit, on
        any number of processes. What is before it in a stream is read and left out.

        Args:
            state: what `state()` returned.

        Raises:
            ValueError: it is none, or of other batches.
        """
        now = self.state()
        if not isinstance(state, Mapping) or state.keys() != now.keys():
            raise ValueError(f"state is {state!r:.200}; expected what state() returns, as {now}")
        try:
            given = {name: whole(name, value, -1, 2**64 - 1) for name, value in state.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(f"state: {error}") from None
        for name in ("batch_size", "rows"):
            if given[name] != now[name]:
                raise ValueError(
                    f"the state is of {name}={given[name]}, and here it is {now[name]}: other "
                    "batches would follow; give the dataset and the batch_size that it was made of"
                )
        place = Place(given["seed"], given["epoch"], given["position"])
        if min(dataclasses.astuple(place)) < 0:
            raise ValueError(f"state is {given}; expected numbers from 0")
        if isinstance(self._made, Rows) and place.position > (count := self._made.count(place)):
            raise ValueError(
                f"the state is after batch {place.position} of an epoch, and here one has {count}; "
                "give the arguments that it was made with"
            )
        self._leave()
        self._place = place
        return self

    def _leave(self) -> None:
        if self._pass is not None and (last := self._pass()) is not None:
            last.close()
        self._pass = None

    def _gave(self, batch: Placed) -> None:
        self._place = dataclasses.replace(self._place, position=self._place.position + 1)
        shapes = tuple((name, tuple(x.shape)) for name, x in batch.items())
        is_new = shapes not in self.shapes
        self.shapes[shapes] += 1
        if is_new and not self._bounded and len(self.shapes) == _MANY_SHAPES + 1:
            warn(
                f"batches came in more than {_MANY_SHAPES} shapes, and jit compiles a program for "
                "each: give lengths=(64, 128, ...), to which rows are padded, or pack=True"
            )

    def _ended(self) -> None:
        self._place = Place(self._place.seed, self._place.epoch + 1)


class Pass(Iterator[Placed]):
    """One iteration over `Batches`."""

    def __init__(self, batches: Batches, made: Ahead[Placed] | Generator[Placed, None, None]):
        self._batches, self._made, self._is_over = batches, made, False

    def __next__(self) -> Placed:
        if self._is_over:
            raise StopIteration
        try:
            batch = next(self._made)
        except BaseException as error:
            self._is_over = True
            if isinstance(error, StopIteration):
                self._batches._ended()
            raise
        self._batches._gave(batch)
        return batch

    def close(self) -> None:
        """Leaves the iteration, and ends its thread."""
        self._is_over = True
        self._made.close()
