"""Batches: rows of tokens, sorted by length, in arrays of few shapes.

A length is rounded up to one of `LENGTHS`, and a batch has as many rows as make a number of tokens:
a program is compiled for each length that comes up, and once more for the few rows that are left
at the end. Rows go from the longest to the shortest, and a batch is filled with shorter ones, so
that only the last batch of all is not full.
"""

import bisect
import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

LENGTHS = (8, 16, 24) + tuple(2**k * n // 4 for k in range(5, 22) for n in (4, 5, 6))
"""Tokens that a row is padded to: at most a third more than it has, a tenth on average."""

WINDOW = 2048
"""Texts that are tokenised at once, while the ones before are computed."""

_CPU_TOKENS, _TOKENS = 1 << 12, 1 << 16  # of a batch: a core's caches, an accelerator's lanes
_IN_FLIGHT = 2  # batches that are computed while their results are not asked for


class Row(NamedTuple):
    """A text's tokens.

    Attributes:
        text: which one it is.
        ids: int32 [T].
        type_ids: int32 [T], which text of a pair a token is of.
    """

    text: int
    ids: np.ndarray
    type_ids: np.ndarray


class Batch(NamedTuple):
    """Rows as arrays, padded at their ends.

    Attributes:
        indices: of the texts; rows after them are of no text.
        ids, type_ids: int32 [B, T].
        lengths: int32 [B], of the rows.
    """

    indices: list[int]
    ids: np.ndarray
    type_ids: np.ndarray
    lengths: np.ndarray


class Shapes(NamedTuple):
    """Which shapes batches have.

    Attributes:
        batch_size: rows of a batch; None for as many as make a number of tokens.
        longest: tokens that a row has at most; None for no limit.
        multiple: what the number of rows is a multiple of.
    """

    batch_size: int | None = None
    longest: int | None = None
    multiple: int = 1

    def length(self, count: int) -> int:
        """Returns what a row of `count` tokens is padded to."""
        length = LENGTHS[bisect.bisect_left(LENGTHS, count)]
        return length if self.longest is None else max(count, min(length, self.longest))

    def rows(self, length: int) -> int:
        """Returns the number of rows of a full batch of that length."""
        rows = self.batch_size
        if rows is None:
            tokens = _CPU_TOKENS if jax.default_backend() == "cpu" else _TOKENS
            rows = max(1, tokens // length)
        return -(-rows // self.multiple) * self.multiple

    def rows_of_last(self, count: int, length: int) -> int:
        """Returns the number of rows of a batch for the `count` that are left: a power of two."""
        rows = 1 << (count - 1).bit_length()
        rows = -(-rows // self.multiple) * self.multiple
        return min(rows, self.rows(length))


def batches(rows: Iterable[Sequence[Row]], shapes: Shapes, pad: int) -> Iterator[Batch]:
    """Cuts rows into batches; they come in several lists, long ones in the first.

    Args:
        pad: the id of padding.
    """
    left: list[Row] = []
    for more in rows:
        left = sorted([*left, *more], key=lambda row: -len(row.ids))
        while left and len(left) >= (count := shapes.rows(shapes.length(len(left[0].ids)))):
            length = shapes.length(len(left[0].ids))
            yield _batch(left[:count], count, length, pad)
            left = left[count:]
    if left:
        length = shapes.length(len(left[0].ids))
        yield _batch(left, shapes.rows_of_last(len(left), length), length, pad)


def _batch(rows: Sequence[Row], count: int, length: int, pad: int) -> Batch:
    ids = np.full((count, length), pad, np.int32)
    type_ids = np.zeros_like(ids)
    lengths = np.ones(count, np.int32)  # a row of no text: no mean over nothing
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        type_ids[i, : len(row.ids)] = row.type_ids
        lengths[i] = len(row.ids)
    return Batch([row.text for row in rows], ids, type_ids, lengths)


def windows(
    order: Sequence[int], tokenize: Callable[[Sequence[int]], list[Row]]
) -> Iterator[list[Row]]:
    """Yields the rows of the texts `order`, tokenised in a thread one window ahead."""
    parts = [order[start : start + WINDOW] for start in range(0, len(order), WINDOW)]
    with ThreadPoolExecutor(1, thread_name_prefix="flaxmodels-tokens") as pool:
        ahead: collections.deque[Future[list[Row]]] = collections.deque()
        for part in parts:
            ahead.append(pool.submit(tokenize, part))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def run(
    found: Iterable[Batch], compute: Callable[[Batch], object], done: Callable[[int], object]
) -> dict[int, np.ndarray]:
    """Computes batches, a few of them ahead of their results -> {text: its row of the result}.

    Args:
        compute: starts a computation, and returns its array [B, ...].
        done: is told of how many texts are ready.
    """
    results: dict[int, np.ndarray] = {}
    started: collections.deque[tuple[list[int], object]] = collections.deque()

    def finish() -> None:
        indices, array = started.popleft()
        rows = np.asarray(array)
        results.update(zip(indices, rows, strict=False))
        done(len(indices))

    for batch in found:
        started.append((batch.indices, compute(batch)))
        while len(started) > _IN_FLIGHT:
            finish()
    while started:
        finish()
    return results
