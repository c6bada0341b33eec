"""Computing each element of a leaf from the same elements of others, wherever the leaf lives.

A NumPy leaf is computed by threads, run by run of what stays in the cache. Any other is one
compiled computation, used again for leaves of the same shape. A cast, which XLA does no faster, is
NumPy's on a CPU for either: the runtime's own memory is made of small pages, whose first touch
costs more than the cast.
"""

import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .memory import contiguous, copy, empty

Bounds = tuple[tuple[int, int], ...]
_RUN = 1 << 16  # elements; with a few temporaries, a share of the second-level cache
_PART = 1 << 20  # elements that a thread does before it asks for more
_TASK = 4 << 20  # bytes, below which another thread costs more than it saves


def elementwise(
    function: Callable[..., Any],
    *leaves: Any,
    dtype: Any,
    scalars: tuple = (),
    donate: bool = False,
) -> Any:
    """`function(*leaves, *scalars)` in `dtype`: a leaf of the kind, and where, the first one is.

    Args:
        function: of arrays of either NumPy or JAX, by operators and methods that both have; the
            same object every time, for what is compiled is kept by it.
        leaves: of one shape. If one is abstract, so is the result.
        donate: the result may take the first leaf's memory.
    """
    first = leaves[0]
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        return _abstract(first).update(dtype=dtype)
    if not isinstance(first, jax.Array) and not any(map(_is_traced, (*leaves, *scalars))):
        return _computed(function, leaves, scalars, _memory(first, dtype, donate))
    leaves = (first, *(_beside(leaf, first) for leaf in leaves[1:]))
    return _compiled(donate)(function, np.dtype(dtype), *leaves, scalars=scalars)


def cast_leaf(leaf: Any, dtype: np.dtype) -> Any:
    """`leaf` in another dtype."""
    if isinstance(leaf, jax.Array) and is_on_host(leaf):
        return placed_like(leaf, _computed(_itself, (leaf,), (), empty(leaf.shape, dtype)))
    return elementwise(_itself, leaf, dtype=dtype)


def is_on_host(leaf: Any) -> bool:
    """Whether NumPy can see the leaf without a copy: it is NumPy's, or on one CPU device."""
    if not isinstance(leaf, jax.Array):
        return isinstance(leaf, np.ndarray | np.generic)
    if _is_traced(leaf) or len(leaf.sharding.device_set) != 1:
        return False
    (device,) = leaf.sharding.device_set
    return device.platform == "cpu" and leaf.is_fully_addressable


def placed_like(leaf: jax.Array, array: np.ndarray) -> jax.Array:
    """`array`, which nobody else holds, as a JAX array where `leaf` is; a CPU takes its memory."""
    return jax.device_put(array, leaf.sharding) if leaf.committed else jax.device_put(array)


def in_threads(work: Callable[[Any], Any], parts: Sequence[Any], nbytes: int) -> list[Any]:
    """`work` of every part, in their order; by as many threads as `nbytes` of work pay for."""
    workers = min(8, os.cpu_count() or 1, len(parts), 1 + nbytes // _TASK)
    if workers < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(workers, thread_name_prefix="flaxmodels-leaf") as pool:
        return list(pool.map(work, parts))


def slabs(shape: tuple[int, ...], most: int) -> Iterator[Bounds]:
    """Cuts an array into boxes of at most `most` elements that are contiguous in C order.

    >>> list(slabs((3, 4), 8))
    [((0, 2), (0, 4)), ((2, 3), (0, 4))]
    """
    row = math.prod(shape[1:])
    if not shape:
        yield ()
    elif row > most:
        for i in range(shape[0]):
            for rest in slabs(shape[1:], most):
                yield ((i, i + 1), *rest)
    else:
        step = max(1, most // max(row, 1))
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            yield ((start, stop), *((0, size) for size in shape[1:]))


def _itself(leaf: Any) -> Any:
    return leaf


def _computed(
    function: Callable[..., Any], leaves: tuple[Any, ...], scalars: tuple, out: np.ndarray
) -> np.ndarray:
    scalars = tuple(np.asarray(x) if isinstance(x, jax.Array) else x for x in scalars)
    sources = [contiguous(np.asarray(leaf)).reshape(-1) for leaf in leaves]
    target = out.reshape(-1)

    def part(first: int) -> None:
        for start in range(first, min(first + _PART, target.size), _RUN):
            here = slice(start, start + _RUN)
            with np.errstate(all="ignore"):
                copy(function(*(source[here] for source in sources), *scalars), target[here])

    in_threads(part, range(0, target.size, _PART), target.nbytes)
    return out


def _memory(leaf: Any, dtype: Any, donate: bool) -> np.ndarray:
    """An array for the result: the leaf itself if it is donated and can be written to."""
    if donate and isinstance(leaf, np.ndarray) and leaf.dtype == dtype:
        if leaf.flags.c_contiguous and leaf.flags.writeable:
            return leaf
    return empty(leaf.shape, dtype)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _beside(leaf: Any, first: Any) -> Any:
    """`leaf` where `first` is, if it is known where that is."""
    if not isinstance(first, jax.Array) or _is_traced(first) or _is_traced(leaf):
        return leaf
    if isinstance(leaf, jax.Array) and leaf.sharding == first.sharding:
        return leaf
    return jax.device_put(leaf, first.sharding)


def _is_traced(value: Any) -> bool:
    return isinstance(value, Tracer)


@functools.cache
def _compiled(donate: bool) -> Callable[..., jax.Array]:
    def compute(function, dtype, first, *rest, scalars):
        return jnp.astype(function(first, *rest, *scalars), dtype)

    return jax.jit(compute, static_argnums=(0, 1), donate_argnums=(2,) if donate else ())
