"""Which rows make a batch: one after another, by length, or several packed into one.

The functions read items (what a row is known by, its number of tokens) one after another, and hold
back no more than a few batches.
"""

import bisect
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_OPEN = 64  # rows that are being filled at a time: first-fit then wastes about 1%


class Group(NamedTuple, Generic[T]):
    """What a batch is made of.

    Attributes:
        rows: of each row of the batch, the rows of the dataset that are in it, one or several.
        length: tokens that it is padded to; None for those of its longest row.
    """

    rows: list[list[T]]
    length: int | None = None


def one_after_another(
    items: Iterable[T], size: int, length: int | None = None
) -> Iterator[Group[T]]:
    """Groups items as they come; the last group may be short."""
    rows: list[list[T]] = []
    for item in items:
        rows.append([item])
        if len(rows) == size:
            yield Group(rows, length)
            rows = []
    if rows:
        yield Group(rows, length)


def by_length(
    items: Iterable[tuple[T, int]], size: int, lengths: Sequence[int]
) -> Iterator[Group[T]]:
    """Groups items of the same of `lengths`, the smallest that they fit into. What is left at the
    end is joined with longer ones, so that only the last group may be short."""
    waiting: dict[int, list[list[T]]] = {length: [] for length in lengths}
    for item, count in items:
        _check(count, lengths[-1])
        length = lengths[bisect.bisect_left(lengths, count)]
        rows = waiting[length]
        rows.append([item])
        if len(rows) == size:
            waiting[length] = []
            yield Group(rows, length)
    left: list[list[T]] = []
    longest = lengths[0]
    for length, rows in waiting.items():
        longest = length if rows else longest
        left += rows
        if len(left) >= size:
            yield Group(left[:size], length)
            left = left[size:]
    if left:
        yield Group(left, longest)


def packed(items: Iterable[tuple[T, int]], size: int, length: int) -> Iterator[Group[T]]:
    """Packs items into rows of `length` tokens, each into the first of the open rows that has room
    (first-fit), and groups the rows; the last group may be short."""
    rows: list[list[T]] = []
    room: list[int] = []
    done: list[list[T]] = []
    for item, count in items:
        _check(count, length)
        place = next((i for i, left in enumerate(room) if left >= count), None)
        if place is None:
            if len(rows) == _OPEN:
                done.append(rows.pop(0))
                room.pop(0)
            rows.append([])
            room.append(length)
            place = len(rows) - 1
        rows[place].append(item)
        room[place] -= count
        if room[place] == 0:
            done.append(rows.pop(place))
            room.pop(place)
        while len(done) >= size:
            yield Group(done[:size], length)
            done = done[size:]
    done += rows
    for start in range(0, len(done), size):
        yield Group(done[start : start + size], length)


def _check(count: int, longest: int) -> None:
    if count > longest:
        raise ValueError(f"a row has {count} tokens, and rows of a batch {longest} at most")
