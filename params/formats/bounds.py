"""Bounds: boxes of an array, one (start, stop) for each of its axes."""

import math
from collections.abc import Iterable, Iterator

Bounds = tuple[tuple[int, int], ...]


def chunks(shape: tuple[int, ...], most: int) -> Iterator[Bounds]:
    """Cuts an array into boxes of at most `most` elements that are contiguous in C order.

    >>> list(chunks((3, 4), 8))
    [((0, 2), (0, 4)), ((2, 3), (0, 4))]
    """
    row = math.prod(shape[1:])
    if not shape:
        yield ()
    elif row > most:
        for i in range(shape[0]):
            for rest in chunks(shape[1:], most):
                yield ((i, i + 1), *rest)
    else:
        step = max(1, most // max(row, 1))
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            yield ((start, stop), *((0, size) for size in shape[1:]))


def of_index(index: tuple[slice, ...] | None, shape: tuple[int, ...]) -> Bounds:
    """Returns the box of a shard's index; all of the array if that is None."""
    index = index or (slice(None),) * len(shape)
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))


def shape_of(bounds: Bounds) -> tuple[int, ...]:
    """Returns the sizes of a box."""
    return tuple(stop - start for start, stop in bounds)


def moved(bounds: Bounds, origin: Bounds) -> Bounds:
    """Returns the box `bounds` of what is the box `origin` of an array, in that array."""
    return tuple(
        (base + start, base + stop) for (start, stop), (base, _) in zip(bounds, origin, strict=True)
    )


def around(boxes: Iterable[Bounds]) -> Bounds:
    """Returns the smallest box that holds all of them."""
    return tuple(
        (min(start for start, _ in axis), max(stop for _, stop in axis))
        for axis in zip(*boxes, strict=True)
    )


def holds(bounds: Bounds, index: tuple[int, ...]) -> bool:
    """Tells whether what belongs at `index` of the leading axes is in the box."""
    return all(bounds[axis][0] <= i < bounds[axis][1] for axis, i in enumerate(index))


def intersection(a: Bounds, b: Bounds) -> Bounds | None:
    """Returns the box that both hold; None where that is empty."""
    common = tuple((max(p[0], q[0]), min(p[1], q[1])) for p, q in zip(a, b, strict=True))
    return common if all(start < stop for start, stop in common) else None


def relative(bounds: Bounds, origin: Bounds) -> tuple[slice, ...]:
    """Returns the slices that take the box `bounds` out of an array that is the box `origin`."""
    return tuple(
        slice(start - base, stop - base)
        for (start, stop), (base, _) in zip(bounds, origin, strict=True)
    )
