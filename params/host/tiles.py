"""Compiled functions of NumPy arrays, tile by tile.

XLA's loops over numbers of 16 and 8 bits are several times as fast as NumPy's. A whole array would
need a compilation for each shape, and a result in the runtime's own memory, which is made of small
pages whose first touch costs more than the loop. A tile's result is still in the cache when it is
copied to where it belongs, and lies in memory that the allocator has again and again.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np

from .copies import CACHE_LINE, as_integers

# A call costs as much as some 100 KiB, and what is larger leaves the cache and the allocator.
TILE_BYTES = 4 << 20
_SMALLEST = 1 << 12  # elements
_SHORTEST = 1 << 17  # elements of a cut, rather than of a tile that is padded
_TASK = 4 << 20  # bytes, below which another thread costs more than it saves


def compiles(*dtypes: np.dtype) -> bool:
    """Whether `call` takes arrays of these dtypes: at most 32 bits wide, of which JAX has the same
    whether or not it may use 64; and there is a CPU device."""
    return all(dtype.itemsize <= 4 and dtype.isnative for dtype in dtypes) and _cpu() is not None


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Where `call` may be called: JAX's CPU device is the default one of this thread, whatever its
    transfers are guarded against. To enter this costs as much as a small tile."""
    with jax.default_device(_cpu()), jax.transfer_guard("allow"):
        yield


def call(function: Callable[..., Any], *tiles: np.ndarray, scalars: tuple = ()) -> np.ndarray:
    """`function(*tiles, *scalars)` on the CPU device; what it returns, read-only."""
    return np.asarray(start(function, *tiles, scalars=scalars))


def start(function: Callable[..., Any], *tiles: np.ndarray, scalars: tuple = ()) -> jax.Array:
    """The same, not waited for: until it is there, nobody may write to the tiles.

    Args:
        function: of JAX arrays; the same object every time, for what is compiled is kept by it.
            What it returns should have a dtype of NumPy's own, which alone is seen without delay.
        tiles: of one size. The function gets them with zeros joined, so that there are few sizes
            to compile for, and may return as many numbers more.
    """
    return _compiled(function, *map(_padded, tiles), scalars=scalars)


def cuts(array: np.ndarray, size: int) -> list[slice]:
    """Cuts a flat array into tiles of `size`, a power of two, and at last smaller powers. They
    begin on cache lines, so that JAX takes them without a copy. Only the first and the last may
    have another size.

    >>> from .copies import empty
    >>> cuts(empty((180_000,), "float32")[3:], 1 << 16)[1:]
    [slice(13, 65549, None), slice(65549, 131085, None), slice(131085, 179997, None)]
    """
    start = min(-array.ctypes.data % CACHE_LINE // array.itemsize, array.size)
    edges = [0, start] if start else [0]
    while (left := array.size - edges[-1]) > 0:
        step = min(size, 1 << (left.bit_length() - 1))
        edges.append(edges[-1] + (step if step >= min(size, _SHORTEST) else left))
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def is_aligned(array: np.ndarray) -> bool:
    """Whether JAX takes it without a copy."""
    return array.ctypes.data % CACHE_LINE == 0


def in_threads(
    work: Callable[[Any], Any],
    parts: Sequence[Any],
    nbytes: int,
    within: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> list[Any]:
    """`work` of every part, in their order; with the help of other threads if `nbytes` of work pay
    for it. A part's work may call this too: this thread does what no other has begun.

    Args:
        within: what each thread enters, once.
    """
    results: list[Any] = [None] * len(parts)
    left = iter(range(len(parts)))

    def take() -> None:
        with within():
            for i in left:
                results[i] = work(parts[i])

    most = min(len(parts), _workers()) - 1 if nbytes >= _TASK else 0
    helpers = [_pool().submit(take) for _ in range(most)]
    try:
        take()
    finally:
        for _ in left:  # after an error
            pass
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()
    return results


def _workers() -> int:
    return min(8, os.cpu_count() or 1)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Threads that stay: to begin them costs as much as a leaf of some MiB. A forked child has none
    of them, and does the work alone."""
    return ThreadPoolExecutor(max(1, _workers() - 1), thread_name_prefix="flaxmodels-leaf")


def _padded(tile: np.ndarray) -> np.ndarray:
    size = max(_SMALLEST, 1 << (tile.size - 1).bit_length())
    if tile.size == size:
        return tile
    whole = np.zeros(size, tile.dtype)
    as_integers(whole)[: tile.size] = as_integers(tile)
    return whole


@functools.partial(jax.jit, static_argnums=0)
def _compiled(function: Callable[..., Any], *tiles: jax.Array, scalars: tuple) -> jax.Array:
    return function(*tiles, *scalars)


@functools.cache
def _cpu() -> Any:
    """JAX's first CPU device, or None if it was told to have none."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
