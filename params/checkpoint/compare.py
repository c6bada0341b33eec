"""Comparing: the largest differences of two arrays, wherever they are, in bounded memory."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..formats import Tensor
from ..formats.source import Bounds
from ..host import tiles
from ..host.copies import contiguous
from ..host.placement import in_numpy

_CHUNK = 1 << 20  # elements read at a time by a thread
_TILE = 1 << 22  # elements in memory, where JAX takes them as they are
_RUN = 1 << 15  # elements; with the temporaries, a share of the second-level cache
_TINY = 2.0**-100  # what is so small is compared by NumPy: XLA's differences of it may be 0


Worst = tuple[float, float]
"""(largest absolute, largest relative difference)"""


def comparison(a: Any, b: Any) -> Callable[[], Worst]:
    """Begins to compare two arrays of one shape; to call what it returns is to wait for the result.

    What NumPy holds is compared meanwhile, so that one comparison begins before another ends; until
    the end nobody may write to it.
    """
    a, b = _numbers(a), _numbers(b)
    placed = [leaf for leaf in (a, b) if isinstance(leaf, jax.Array)]
    if len(placed) == 2 and a.sharding != b.sharding:
        b = jax.device_put(b, a.sharding)
    in_memory = all(isinstance(x, np.ndarray) and x.flags.c_contiguous for x in (a, b))
    if in_memory:
        a, b = a.reshape(-1), b.reshape(-1)
    boxes = list(_shards(placed[0])) if placed else _chunks(a, b)
    read_a, read_b = _reader(a), _reader(b)

    def of_box(box: Bounds) -> Callable[[], Worst]:
        parts = [contiguous(part).reshape(-1) for part in (read_a(box), read_b(box))]
        wait = _block(*parts)
        if in_memory and all(map(tiles.is_aligned, parts)):
            return wait
        worst = wait()  # and what was read, or copied, is let go
        return lambda: worst

    nbytes = math.prod(a.shape) * a.dtype.itemsize
    begun = tiles.in_threads(of_box, boxes, nbytes, tiles.on_cpu)
    return lambda: _worst(tiles.in_threads(lambda wait: wait(), begun, nbytes, tiles.on_cpu))


def _numbers(leaf: Any) -> Any:
    """A leaf of numbers."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return in_numpy(jax.random.key_data(leaf))
    return leaf


def _shards(leaf: jax.Array) -> dict[Bounds, jax.Array]:
    """What this process holds of a leaf, each part once."""

    def bounds(index: tuple[slice, ...]) -> Bounds:
        return tuple(part.indices(n)[:2] for part, n in zip(index, leaf.shape, strict=True))

    return {bounds(shard.index): shard.data for shard in leaf.addressable_shards}


def _reader(leaf: Any) -> Callable[[Bounds], np.ndarray]:
    """What reads a part of a leaf into host memory."""
    if isinstance(leaf, Tensor):
        return leaf.read
    if isinstance(leaf, jax.Array):
        shards = _shards(leaf)
        return lambda bounds: np.asarray(shards[bounds])
    return lambda bounds: np.asarray(leaf[tuple(slice(*bound) for bound in bounds)])


def _chunks(a: Any, b: Any) -> list[Bounds]:
    if not all(isinstance(x, np.ndarray) and x.ndim == 1 for x in (a, b)):
        return list(chunks(a.shape, _CHUNK))
    parts = tiles.cuts(a, _TILE)
    if not all(tiles.is_aligned(x[part.start :]) for part in parts[-1:] for x in (a, b)):
        parts = tiles.cuts(a, _CHUNK)  # of each of which JAX makes a copy
    return [((part.start, part.stop),) for part in parts]


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


def _block(a: np.ndarray, b: np.ndarray) -> Callable[[], Worst]:
    if a.size <= _RUN or not (tiles.compiles(a.dtype, b.dtype) and _is_float(a) and _is_float(b)):
        return lambda: _by_numpy(a, b)
    found = tiles.start(_largest, a, b)

    def wait() -> Worst:
        largest, relative, tiny = np.asarray(found).view(np.float32)
        if tiny or not np.isfinite(largest):
            return _by_numpy(a, b)
        return float(largest), float(relative)

    return wait


def _by_numpy(a: np.ndarray, b: np.ndarray) -> Worst:
    runs = (slice(start, start + _RUN) for start in range(0, a.size, _RUN))
    return _worst(_run(a[here], b[here]) for here in runs)


def _is_float(array: np.ndarray) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


def _largest(a: jax.Array, b: jax.Array) -> jax.Array:
    """The bits of the largest difference, the largest relative one, and the largest number below
    `_TINY`; of numbers that are not negative they have the same order, and are compared faster."""

    def bits(x: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(x, jnp.int32) & 0x7FFFFFFF

    def larger(x: tuple[jax.Array, ...], y: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(map(jnp.maximum, x, y))

    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    distance, size = bits(a - b), jnp.maximum(bits(a), bits(b))
    least = int(np.float32(_TINY).view(np.int32))
    divisor = jax.lax.bitcast_convert_type(jnp.maximum(size, least), jnp.float32)
    relative = bits(jnp.abs(a - b) / divisor)
    tiny = jnp.where(size < least, size, 0)
    zero = jnp.int32(0)
    return jnp.stack(jax.lax.reduce((distance, relative, tiny), (zero,) * 3, larger, (0,)))


def _worst(pairs: Iterable[Worst]) -> Worst:
    """The largest of each; NaN, which is no number's greater or less, if there is one."""
    largest = relative = 0
    for one, two in pairs:
        largest = one if one > largest or one != one else largest
        relative = two if two > relative or two != two else relative
    return largest, relative


def _run(a: np.ndarray, b: np.ndarray) -> Worst:
    if a.dtype == b.dtype and np.array_equal(_bits(a), _bits(b)):
        return 0, 0
    dtype = _common(a.dtype, b.dtype)
    a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    with np.errstate(all="ignore"):
        return _of_integers(a, b) if dtype.kind in "iu" else _of_floats(a, b)


def _bits(array: np.ndarray) -> np.ndarray:
    """The same bytes as few integers."""
    return array.view("u8" if array.nbytes % 8 == 0 else f"u{array.itemsize}")


def _of_floats(a: np.ndarray, b: np.ndarray) -> Worst:
    distance = np.abs(a - b)
    size = np.abs(a)
    np.maximum(size, np.abs(b), out=size)
    largest = distance.max()
    if not np.isfinite(largest):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        distance[same] = 0
        size[same | np.isinf(size)] = 1
        largest = distance.max()
    np.maximum(size, np.nextafter(size.dtype.type(0), size.dtype.type(1)), out=size)
    np.divide(distance, size, out=distance)
    return float(largest), float(distance.max())


def _of_integers(a: np.ndarray, b: np.ndarray) -> Worst:
    unsigned = f"u{a.itemsize}"  # whose differences are exact where the signed ones overflow
    distance = np.maximum(a, b).view(unsigned) - np.minimum(a, b).view(unsigned)
    size = np.maximum(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64)))
    return int(distance.max()), float((distance / np.maximum(size, 1)).max())


def _common(a: np.dtype, b: np.dtype) -> np.dtype:
    """What both are compared in."""
    return np.promote_types(_native(a), _native(b))


def _native(dtype: np.dtype) -> np.dtype:
    """A dtype of NumPy's own that holds all of `dtype`'s numbers: float32 for narrow floats."""
    if dtype.kind in "iuc":
        return dtype
    if jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(np.float32) if dtype.itemsize < 4 else dtype
    return np.dtype(np.int8 if jnp.issubdtype(dtype, jnp.signedinteger) else np.uint8)
