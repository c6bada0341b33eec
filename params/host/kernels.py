"""Host kernels: the elements of a leaf from the same elements of others, wherever the leaf lives.

A leaf is one compiled computation on its own device, used again for leaves of the same shape. NumPy
lends the CPU device its memory and takes over the result's. NumPy itself computes what is too small
to compile for, and what is wider than 32 bits, which JAX may not have.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import xla_bridge  # the only way to ask without starting a backend
from jax.core import Tracer

from ..types import Leaf
from .copies import copy, empty, memory_of
from .threads import in_threads, unwatched

_WORTH = 1 << 16  # elements; a compilation takes some 30 ms


def elementwise(
    function: Callable[..., object],
    *leaves: Leaf,
    dtype: jax.typing.DTypeLike,
    scalars: tuple = (),
    donate: bool = False,
) -> Leaf:
    """Returns `function(*leaves, *scalars)` in `dtype`, of the first leaf's kind and where it is.

    Numbers too small for the exponent of the dtype it is computed in may become 0, as XLA's do.

    Args:
        function: of arrays of either NumPy or JAX, by operators and methods that both have; the
            same object every time, for what is compiled is kept by it.
        leaves: of one shape. If one is abstract, so is the result.
        donate: the result may take the first leaf's memory.
    """
    first, dtype = leaves[0], np.dtype(dtype)
    for leaf in leaves:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf.update(dtype=dtype)
    if any(isinstance(x, Tracer) for x in (*leaves, *scalars)):
        # Gradients go through a cast, and not through the integers of `_to_bfloat16`.
        return _compiled(False, traced=True)(function, dtype, *leaves, scalars=scalars)
    if isinstance(first, jax.Array):
        beside = (_beside(leaf, first) for leaf in leaves[1:])
        return _compiled(donate)(function, dtype, first, *beside, scalars=scalars)
    leaves, scalars = jax.device_get((leaves, scalars))
    if leaves[0].size >= _WORTH and compiles(dtype, *(leaf.dtype for leaf in leaves)):
        with on_cpu():
            result = _adopted(_compiled(False)(function, dtype, *leaves, scalars=scalars))
    else:
        with np.errstate(all="ignore"):
            result = np.asarray(function(*leaves, *scalars)).astype(dtype, copy=False)
    if donate and isinstance(first, np.ndarray) and first.dtype == dtype and first.flags.writeable:
        copy(result, first)
        return first
    return result


def cast_leaf(leaf: Leaf, dtype: jax.typing.DTypeLike) -> Leaf:
    """Returns `leaf` in another dtype; NumPy and XLA round alike."""
    dtype = np.dtype(dtype)
    if not _is_for_numpy(leaf, dtype):
        return elementwise(_itself, leaf, dtype=dtype)
    with np.errstate(all="ignore"):
        result = _cast_on_host(np.asarray(leaf), dtype)
    return put_back(result, leaf) if isinstance(leaf, jax.Array) else result


def _is_for_numpy(leaf: Leaf, dtype: np.dtype) -> bool:
    """Tells whether a leaf is cast into memory of NumPy's.

    On a CPU device what is small is, and in a forked child all: nothing is compiled, which a child
    without XLA's threads would wait for without end. So are casts from bfloat16 to float32, because
    NumPy's large results are of large pages: touching XLA's small ones for the first time takes
    several times as long as the cast.
    """
    is_quick = (leaf.dtype, dtype) == (jnp.bfloat16, np.float32)
    if isinstance(leaf, np.ndarray):
        return is_quick
    is_small = leaf.size < _WORTH and compiles(dtype, leaf.dtype)
    return is_on_one_cpu(leaf) and (is_quick or is_small or _forked)


def is_on_one_cpu(leaf: Leaf) -> TypeGuard[jax.Array]:
    """Tells whether a leaf is an array whose memory NumPy can read."""
    if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
        return False
    devices = leaf.sharding.device_set
    return len(devices) == 1 and leaf.is_fully_addressable and next(iter(devices)).platform == "cpu"


def put_back(result: np.ndarray, leaf: jax.Array) -> jax.Array:
    """Returns aligned memory, without a copy, as an array on the one CPU device of `leaf`."""
    return jax.device_put(result, leaf.sharding if leaf.committed else None)


def _cast_on_host(source: np.ndarray, dtype: np.dtype) -> np.ndarray:
    target = empty(source.shape, dtype)
    if source.nbytes < _WORTH:
        target[...] = source
        return target
    result = target
    if source.flags.c_contiguous:
        source, result = source.reshape(-1), target.reshape(-1)
    pairs = [*zip(np.array_split(source, 8), np.array_split(result, 8), strict=True)]
    in_threads(lambda pair: np.copyto(pair[1], pair[0]), pairs, target.nbytes)
    return target


def _itself(leaf: Leaf) -> Leaf:
    return leaf


def compiles(*dtypes: np.dtype) -> bool:
    """Tells whether the CPU device computes in these dtypes: at most 32 bits wide, of which JAX has
    the same whether or not it may use 64; and there is one, whose threads did not stay behind in
    the parent of a forked process."""
    plain = all(dtype.itemsize <= 4 and dtype.isnative for dtype in dtypes)
    return plain and not _forked and _cpu() is not None


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Lets this thread compute on the CPU device now, in a trace or under a guard too."""
    with jax.default_device(_cpu()), unwatched(), jax.ensure_compile_time_eval():
        yield


@functools.cache
def _compiled(donate: bool, traced: bool = False) -> Callable[..., jax.Array]:
    def compute(function, dtype, first, *rest, scalars):
        result = function(first, *rest, *scalars)
        if not traced and dtype == jnp.bfloat16 and result.dtype == jnp.float32:
            return jax.lax.platform_dependent(result, cpu=_to_bfloat16, default=_plainly)
        return jnp.astype(result, dtype)

    return jax.jit(compute, static_argnums=(0, 1), donate_argnums=(2,) if donate else ())


def _to_bfloat16(x: jax.Array) -> jax.Array:
    """Rounds float32 to the nearest, ties to even: XLA's own cast takes three times as long on a
    CPU, and gives the same bits."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    nan = bits >> 16 & 0x8000 | 0x7FC0
    rounded = jnp.where(jnp.isnan(x), nan, rounded).astype(jnp.uint16)
    return jax.lax.bitcast_convert_type(rounded, jnp.bfloat16)


def _plainly(x: jax.Array) -> jax.Array:
    return jnp.astype(x, jnp.bfloat16)


def _beside(leaf: Leaf, first: jax.Array) -> jax.Array:
    if isinstance(leaf, jax.Array) and leaf.sharding == first.sharding:
        return leaf
    return jax.device_put(leaf, first.sharding)


def _forget_threads() -> None:
    global _forked
    _forked |= xla_bridge.backends_are_initialized()  # there are threads from then on


_forked = False
os.register_at_fork(after_in_child=_forget_threads)


@functools.cache
def _cpu() -> jax.Device | None:
    """Returns JAX's first CPU device, or None if it was told to have none."""
    with contextlib.suppress(RuntimeError):
        return jax.local_devices(backend="cpu")[0]


def _adopted(array: jax.Array) -> np.ndarray:
    """Returns the memory of an array on the CPU, which nobody else holds, as NumPy's: it can be
    written."""
    return memory_of(array.block_until_ready()).view(array.dtype).reshape(array.shape)
