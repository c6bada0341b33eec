"""Computing each element of a leaf from the same elements of others, wherever the leaf lives.

A leaf is one compiled computation, used again for leaves of the same shape; a NumPy leaf too, if it
is large and JAX sees it without a copy. Other NumPy leaves, and those whose memory the result
takes, are computed tile by tile, by threads. So are casts, for which the runtime's own memory is
too slow: it is made of small pages, whose first touch costs more than the cast.
"""

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import tiles
from .copies import contiguous, copy, empty
from .placement import adopted, beside, is_traced

_WORTH = 1 << 18  # elements
_QUICK_CASTS = {np.dtype(np.float32), jnp.dtype(jnp.bfloat16)}  # NumPy's are as fast as XLA's


def elementwise(
    function: Callable[..., Any],
    *leaves: Any,
    dtype: Any,
    scalars: tuple = (),
    donate: bool = False,
) -> Any:
    """`function(*leaves, *scalars)` in `dtype`: a leaf of the kind, and where, the first one is.

    Numbers too small for the exponent of the dtype it is computed in may become 0, as XLA's do.

    Args:
        function: of arrays of either NumPy or JAX, by operators and methods that both have; the
            same object every time, for what is compiled is kept by it.
        leaves: of one shape. If one is abstract, so is the result.
        donate: the result may take the first leaf's memory.
    """
    first = leaves[0]
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        return _abstract(first).update(dtype=dtype)
    if not isinstance(first, jax.Array) and not any(map(is_traced, (*leaves, *scalars))):
        return _computed(function, leaves, scalars, np.dtype(dtype), donate)
    leaves = (first, *(beside(leaf, first) for leaf in leaves[1:]))
    return _compiled(donate)(function, np.dtype(dtype), *leaves, scalars=scalars)


def cast_leaf(leaf: Any, dtype: np.dtype) -> Any:
    """`leaf` in another dtype."""
    return elementwise(_itself, leaf, dtype=dtype)


def _itself(leaf: Any) -> Any:
    return leaf


def _computed(
    function: Callable[..., Any],
    leaves: tuple[Any, ...],
    scalars: tuple,
    dtype: np.dtype,
    donate: bool,
) -> np.ndarray:
    scalars = tuple(np.asarray(x) if isinstance(x, jax.Array) else x for x in scalars)
    sources = [contiguous(np.asarray(leaf)).reshape(-1) for leaf in leaves]
    compiles = tiles.compiles(dtype, *(source.dtype for source in sources))
    is_cast = function is _itself
    if compiles and not is_cast and not donate and _goes_whole(sources):
        with tiles.on_cpu():
            result = _compiled(False)(function, dtype, *sources, scalars=scalars)
            return adopted(result).reshape(leaves[0].shape)
    out = _memory(leaves[0], dtype, donate)
    target = out.reshape(-1)
    is_quick = is_cast and {dtype, sources[0].dtype} <= _QUICK_CASTS
    by_xla = (_by_xla, tiles.on_cpu)
    compute, within = by_xla if compiles and not is_quick else (_by_numpy, nullcontext)

    def part(here: slice) -> None:
        copy(compute(function, dtype, [x[here] for x in sources], scalars), target[here])

    parts = tiles.cuts(sources[0], tiles.TILE_BYTES // dtype.itemsize)
    tiles.in_threads(part, parts, target.nbytes, within)
    return out


def _goes_whole(sources: list[np.ndarray]) -> bool:
    """Whether JAX takes them without a copy, and they are worth a compilation for their size."""
    return sources[0].size >= _WORTH and all(map(tiles.is_aligned, sources))


def _by_numpy(
    function: Callable[..., Any], dtype: np.dtype, parts: list[np.ndarray], scalars: tuple
) -> np.ndarray:
    with np.errstate(all="ignore"):
        return function(*parts, *scalars)


def _by_xla(
    function: Callable[..., Any], dtype: np.dtype, parts: list[np.ndarray], scalars: tuple
) -> np.ndarray:
    bits = tiles.call(_in_bits(function, dtype), *parts, scalars=scalars)
    return bits[: parts[0].size].view(dtype)


@functools.cache
def _in_bits(function: Callable[..., Any], dtype: np.dtype) -> Callable[..., Any]:
    """`function` in `dtype`, as integers of the same bits."""
    narrow = _bfloat16_bits if dtype == jnp.bfloat16 else None

    def compute(*arguments: Any) -> jax.Array:
        result = function(*arguments)
        if narrow and result.dtype == jnp.float32:
            return narrow(result)
        return jax.lax.bitcast_convert_type(result.astype(dtype), f"uint{8 * dtype.itemsize}")

    return compute


def _bfloat16_bits(x: jax.Array) -> jax.Array:
    """Rounded to even, as XLA does in three times the time on a CPU."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    nan = bits >> 16 & 0x8000 | 0x7FC0
    return jnp.where(jnp.isnan(x), nan, rounded).astype(jnp.uint16)


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


@functools.cache
def _compiled(donate: bool) -> Callable[..., jax.Array]:
    def compute(function, dtype, first, *rest, scalars):
        return jnp.astype(function(first, *rest, *scalars), dtype)

    return jax.jit(compute, static_argnums=(0, 1), donate_argnums=(2,) if donate else ())
