"""Where a leaf is, and how what is made of it gets there."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_traced(value: Any) -> bool:
    return isinstance(value, Tracer)


def is_on_host(leaf: Any) -> bool:
    """Whether NumPy can see the leaf without a copy: it is NumPy's, or on one CPU device."""
    if not isinstance(leaf, jax.Array):
        return isinstance(leaf, np.ndarray | np.generic)
    if is_traced(leaf) or len(leaf.sharding.device_set) != 1:
        return False
    (device,) = leaf.sharding.device_set
    return device.platform == "cpu" and leaf.is_fully_addressable


def in_numpy(leaf: Any) -> Any:
    """The leaf as NumPy's, if that takes no copy; keys stay what they are."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return np.asarray(leaf) if is_on_host(leaf) and not is_key else leaf


def bytes_for_threads(leaves: Iterable[Any]) -> int:
    """Bytes of arrays, if any thread may work on them. 0 if one is JAX's: what is made of it is a
    matter of the calling thread, for traces and contexts such as `jax.enable_x64` are."""
    leaves = [leaf for leaf in leaves if hasattr(leaf, "dtype")]
    if any(isinstance(leaf, jax.Array) for leaf in leaves):
        return 0
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def result_sharding(leaf: Any) -> Any:
    """The sharding that what is made of an array gets; None where JAX chooses: under `jit`, and of
    an array that is on its device by default."""
    return None if is_traced(leaf) or not leaf.committed else leaf.sharding


def placed_like(leaves: list[jax.Array], arrays: list[np.ndarray]) -> list[jax.Array]:
    """The arrays, which nobody else holds, as JAX arrays where the leaves are; a CPU takes their
    memory. All at once: one by one costs twice as much."""
    return jax.device_put(arrays, [result_sharding(leaf) for leaf in leaves])


def adopted(array: jax.Array) -> np.ndarray:
    """The memory of an array on the CPU, which nobody else holds, as NumPy's: it can be written."""
    return np.asarray(_Memory(array)).view(array.dtype).reshape(array.shape)


class _Memory:
    """What keeps the memory of an array, for NumPy's views of it."""

    def __init__(self, array: jax.Array):
        self._array = array.block_until_ready()
        self.__array_interface__ = {
            "version": 3,
            "shape": (array.nbytes,),
            "typestr": "|u1",
            "data": (array.unsafe_buffer_pointer(), False),
        }


def beside(leaf: Any, first: Any) -> Any:
    """`leaf` where `first` is, if it is known where that is."""
    if not isinstance(first, jax.Array) or is_traced(first) or is_traced(leaf):
        return leaf
    if isinstance(leaf, jax.Array) and leaf.sharding == first.sharding:
        return leaf
    return jax.device_put(leaf, first.sharding)
