"""Makes the batches of an epoch, from any of them on."""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from .batch_pipeline import Form
from .collate import Placed
from .grouping import Group
from .rows.draws import mixed, permutation
from .rows.reading import Reader, piece_of
from .rows.sources import Indexed, Row, Stream

T = TypeVar("T")

_READ_AT_ONCE = 512  # rows whose lengths are asked for: a tokenizer uses all cores for many
_TOO_FEW = (
    "the rows of the dataset do not fill one batch, and the last one is left out: give "
    "drop_remainder=False, or a smaller batch_size"
)
_TOKENS_KEPT = 1 << 26  # 256 MB of int32


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the next batch is.

    Attributes:
        seed, epoch: what all that is drawn in an epoch follows from.
        position: batches of the epoch that are before it.
    """

    seed: int
    epoch: int = 0
    position: int = 0

    @property
    def keys(self) -> tuple[int, int]:
        """The keys of what is drawn in the epoch."""
        return self.seed, self.epoch


class Rows:
    """Batches of rows that have numbers.

    An epoch is an order of the numbers. Where batches depend on lengths, these are asked for once,
    and each epoch is planned from them: any place in it is then reached at once. Texts that were
    tokenised for it are kept, if they are not too many. What is ordered are rows, or where rows are
    split, their pieces.
    """

    def __init__(self, source: Indexed, reader: Reader, form: Form, shuffle: bool):
        self._source, self._reader, self._form = source, reader, form
        self._shuffle = shuffle
        self._lengths: np.ndarray | None = None
        self._kept: list[Row] | None = None
        self._lock = threading.Lock()
        self._pieces: tuple[np.ndarray, np.ndarray] | None = None
        self._plan: tuple[tuple[int, int], list[Group[int]]] | None = None

    def __len__(self) -> int:
        return len(self._source)

    def count(self, place: Place) -> int:
        """Returns how many batches the epoch has."""
        if self._form.is_measured:
            return len(self._planned(place))
        full, rest = divmod(len(self), self._form.batch_size)
        return full + (rest > 0 and not self._form.drop_remainder)

    def batches(self, place: Place) -> Generator[Placed, None, None]:
        """Makes the batches of an epoch, from a place on."""
        rectangular = getattr(self._source, "is_rectangular", False)

        def rows(numbers: Sequence[int]) -> Sequence[Row]:
            return self._reader.drawn(self._read(numbers), place.keys, numbers)

        for group in self._groups(place):
            yield _made(self._form, group, rows, rectangular=rectangular)

    def _groups(self, place: Place) -> Iterable[Group[int]]:
        if self._form.is_measured:
            return self._planned(place)[place.position :]
        order = self._order(place)[place.position * self._form.batch_size :]
        return self._form.groups((int(i), 0) for i in order)

    def _order(self, place: Place) -> np.ndarray | range:
        count = len(self) if self._lengths is None else len(self._lengths)
        return permutation(count, *place.keys) if self._shuffle else range(count)

    def _planned(self, place: Place) -> list[Group[int]]:
        with self._lock:  # a thread may ask for it, and `len` at the same time
            return self._plan_of(place)

    def _plan_of(self, place: Place) -> list[Group[int]]:
        if self._plan is None or self._plan[0] != place.keys:
            lengths = self._measured()
            order = np.asarray(self._order(place))
            items = zip(order.tolist(), lengths[order].tolist(), strict=True)
            groups = [*self._form.groups(items)]
            if not groups:
                raise ValueError(_TOO_FEW)
            self._plan = place.keys, groups
        return self._plan[1]

    def _measured(self) -> np.ndarray:
        """Returns the tokens of each row, or piece of one, int64."""
        if self._lengths is None:
            found: list[int] = []
            kept: list[Row] = []
            left = 0 if self._reader.texts is None else _TOKENS_KEPT
            for start in range(0, len(self), _READ_AT_ONCE):
                numbers = range(start, min(start + _READ_AT_ONCE, len(self)))
                rows = self._reader.read(self._source.take(numbers))
                lengths = [*map(tokens, rows)]
                found += lengths
                left -= sum(lengths)
                if left < 0:
                    kept.clear()
                else:
                    kept += rows
            self._kept, self._lengths = kept or None, np.array(found, np.int64)
            if (packs := self._form.packs) is not None and packs.splits:
                self._lengths, owners, starts = split(self._lengths, packs.length)
                self._pieces = owners, starts
        return self._lengths

    def _read(self, numbers: Sequence[int]) -> list[Row]:
        """Returns rows, or pieces of rows, by their numbers."""
        packs, pieces = self._form.packs, self._pieces
        if packs is None or pieces is None:
            return self._whole(numbers)
        owners, starts = (x[numbers].tolist() for x in pieces)
        rows = zip(self._whole(owners), starts, strict=True)
        return [piece_of(row, start, packs.length) for row, start in rows]

    def _whole(self, numbers: Sequence[int]) -> list[Row]:
        if self._kept is not None:
            return [self._kept[i] for i in numbers]
        return self._reader.read(self._source.take(numbers))


class Streamed:
    """Batches of a stream: a place is reached by reading what is before it."""

    def __init__(self, source: Stream, reader: Reader, form: Form, buffer: int):
        self._source, self._reader, self._form = source, reader, form
        self._buffer = buffer

    def batches(self, place: Place) -> Generator[Placed, None, None]:
        """Makes the batches of an epoch, from a place on.

        Raises:
            ValueError: the stream is empty, or ends before the place.
        """
        left, group = place.position, None

        def rows(items: Sequence[tuple[int, Row]]) -> Sequence[Row]:
            numbers, rows = zip(*items, strict=True)
            rows = rows if self._form.is_measured else self._reader.read(rows)
            return self._reader.drawn(rows, place.keys, numbers)

        for group in self._groups(place):
            if left == 0:
                yield _made(self._form, group, rows, rectangular=False)
            left = max(left - 1, 0)
        if group is None:
            raise ValueError(_TOO_FEW)
        if left > 0:
            raise ValueError(
                f"the dataset ended {left} batches before the place that is restored: it has fewer "
                "rows than it had"
            )

    def _groups(self, place: Place) -> Iterator[Group[tuple[int, Row]]]:
        rows = enumerate(self._source.rows(place.epoch))
        rows = shuffled(rows, self._buffer, place.keys) if self._buffer > 1 else rows
        first = next(rows, None)
        if first is None:
            raise ValueError("the dataset is empty: a pass over it gave no row")
        rows = itertools.chain([first], rows)
        if not self._form.is_measured:
            return self._form.groups((pair, 0) for pair in rows)
        return self._form.groups((pair, tokens(pair[1])) for pair in self._read(rows))

    def _read(self, rows: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        packs, number = self._form.packs, 0
        while chunk := [*itertools.islice(rows, _READ_AT_ONCE)]:
            numbers, raw = zip(*chunk, strict=True)
            made = self._reader.read(raw)
            if packs is None or not packs.splits:
                yield from zip(numbers, made, strict=True)
                continue
            for row in made:
                for start in range(0, max(tokens(row), 1), packs.length):
                    yield number, piece_of(row, start, packs.length)
                    number += 1


def split(lengths: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits rows of some lengths [N] into pieces [P] that are not longer than `longest`.

    Returns:
        the length of each piece, the row that it is of, and the token that it begins with.
    """
    counts = np.maximum(-(-lengths // longest), 1)
    owners = np.repeat(np.arange(len(lengths)), counts)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    starts = (np.arange(len(owners)) - firsts) * longest
    return np.minimum(lengths[owners] - starts, longest), owners, starts


def tokens(row: Row) -> int:
    """Returns how many tokens a row needs: its own, or a decoder's, whichever are more; over
    choices, those of the longest."""
    names = ("input_ids", "labels", "label_ids", "decoder_input_ids")
    return max(_length(row[name]) for name in names if name in row)


def _length(ids: Any) -> int:
    """Returns the length of tokens [T] or [C][T]; 0 of what is none."""
    if not hasattr(ids, "__len__") or getattr(ids, "ndim", 1) == 0 or len(ids) == 0:
        return 0
    if hasattr(ids[0], "__len__"):
        return max(map(len, ids))
    return 0 if isinstance(ids[0], float | np.floating) else len(ids)


def shuffled(items: Iterable[T], size: int, keys: tuple[int, ...]) -> Iterator[T]:
    """Yields items in an order that follows from keys: each is drawn from `size` that wait."""
    waiting: list[T] = []
    for number, item in enumerate(items):
        if len(waiting) < size:
            waiting.append(item)
            continue
        place = int(mixed(*keys, number)[0] % np.uint64(size))
        drawn, waiting[place] = waiting[place], item
        yield drawn
    for place in np.argsort(mixed(*keys, 0, np.arange(len(waiting))), kind="stable"):
        yield waiting[place]


def _made(
    form: Form, group: Group[T], rows: Callable[[list[T]], Sequence[Row]], *, rectangular: bool
) -> Placed:
    """Makes the batch of a group, of which `rows` reads what this process has of it."""
    full = form.filled_up(group)
    read = form.rows_read(len(full.rows), full.length, rectangular=rectangular)
    pieces = [full.rows[b] for b in read]
    ready = iter(rows([*itertools.chain.from_iterable(pieces)]))
    apart = [[next(ready) for _ in piece] for piece in pieces]
    return form.batch(apart, read, len(group.rows), full.length)
