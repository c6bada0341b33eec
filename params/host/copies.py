"""Host memory: aligned bytes, and copies that transpose and cast at the speed of the cache."""

import ctypes
import math
import threading
from typing import Any

import jax
import numpy as np

CACHE_LINE = 64  # bytes
# A tile is 512 bytes of each of 512 rows. Longer runs leave the second-level cache, shorter ones
# fetch more pages of the target than the processor remembers.
TILE_ROWS = 512
_TILE_RUN = 512  # bytes


def empty_bytes(count: int) -> np.ndarray:
    """Returns uninitialised bytes on a 64-byte boundary, which a CPU device takes without a
    copy."""
    raw = np.empty(count + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + count]


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns such bytes as an array."""
    dtype = np.dtype(dtype)
    return empty_bytes(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


class Scratch(threading.local):
    """Memory that a thread uses again and again: touching new memory takes as long as what is done
    with it."""

    def __init__(self):
        self.held: dict[str, np.ndarray] = {}

    def bytes(self, count: int, use: str = "") -> np.ndarray:
        """Returns `count` bytes, the same for one use each time."""
        if use not in self.held or self.held[use].nbytes < count:
            self.held[use] = empty_bytes(count)
        return self.held[use][:count]

    def array(self, shape: tuple[int, ...], dtype: np.dtype, use: str = "") -> np.ndarray:
        """Returns such bytes as an array."""
        count = math.prod(shape) * dtype.itemsize
        return self.bytes(count, use).view(dtype).reshape(shape)


class RowsApart:
    """Uninitialised rows an odd number of cache lines apart: a column of them is spread over the
    whole cache, where rows a power of two apart would share a few lines of it.

    Attributes:
        array: uint8 [rows, bytes].
        views: the rows as buffers.
    """

    def __init__(self, count: int, nbytes: int):
        pitch = (-(-nbytes // CACHE_LINE) | 1) * CACHE_LINE
        raw = empty_bytes(count * pitch)
        self.nbytes = nbytes
        self.array = raw.reshape(count, pitch)[:, :nbytes]
        self.views = [raw.data[start : start + nbytes] for start in range(0, len(raw), pitch)]


def memory_of(array: jax.Array) -> np.ndarray:
    """Returns the memory of an array that the host can see, as writable bytes; it lives as long as
    a view of it."""
    start = array.unsafe_buffer_pointer()
    memory: Any = (ctypes.c_uint8 * array.nbytes).from_address(start)
    memory.owner = array
    return np.frombuffer(memory, np.uint8)


def contiguous(array: np.ndarray) -> np.ndarray:
    """Returns `array`, or a copy of it in C order if it lies otherwise."""
    if array.flags.c_contiguous:
        return array
    result = empty(array.shape, array.dtype)
    copy(array, result)
    return result


def copy(source: np.ndarray, target: np.ndarray) -> None:
    """Carries out `target[...] = source`, cast as XLA casts: what a dtype cannot hold becomes inf
    or NaN.

    Where one is the other's transpose, in tiles: NumPy follows the order of one of the two and
    misses the cache in the other.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        _copy(source, target)


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    if source.dtype == target.dtype:
        source, target = as_integers(source), as_integers(target)
    if source.ndim < 2 or _is_ordered(source):
        target[...] = source
    elif source.ndim > 2:
        for part, place in zip(source, target, strict=True):
            _copy(part, place)
    else:
        _transpose(source, target)


def _transpose(source: np.ndarray, target: np.ndarray) -> None:
    columns, rows = source.shape
    lines, rest = divmod(source.strides[1], CACHE_LINE)
    are_apart = rest == 0 and lines % 2 == 1
    if source.dtype == target.dtype and rows <= TILE_ROWS and are_apart:
        target[...] = source
        return
    width = max(1, _TILE_RUN // source.itemsize)
    # Rows that are a power of two apart would share few lines of the cache: a line between them.
    pad = max(1, CACHE_LINE // target.itemsize)
    tile = np.empty((min(rows, TILE_ROWS), min(columns, width) + pad), target.dtype)
    plain = as_integers(tile)
    target = as_integers(target)
    for row in range(0, rows, TILE_ROWS):
        for column in range(0, columns, width):
            part = source[column : column + width, row : row + TILE_ROWS]
            here = (slice(part.shape[1]), slice(part.shape[0]))
            tile[here] = part.T
            target[column : column + width, row : row + TILE_ROWS] = plain[here].T


def _is_ordered(array: np.ndarray) -> bool:
    """Tells whether elements lie in memory in the order of their indices, with gaps perhaps."""
    strides = [stride for stride, size in zip(array.strides, array.shape, strict=True) if size > 1]
    return strides == sorted(strides, reverse=True)


def as_integers(array: np.ndarray) -> np.ndarray:
    """Returns the same bits as integers; NumPy moves extension types one element at a time."""
    return array.view(f"u{array.itemsize}") if array.itemsize in (1, 2, 4, 8) else array
