"""Resizing: one leaf with entries joined to the end of an axis or cut from it, or put in the place
of another, and still the kind of array, of the dtype, and where it was."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

Draw = Callable[[Any, Any, int], jax.Array]
"""(key, leaf, how many) -> the entries to join to the leaf."""


def resized(leaf: Any, size: int, axis: int, draw: Draw, key: jax.Array | None = None) -> Any:
    """`leaf` with `size` entries along `axis`: its last cut, or `draw` joined to them.

    >>> resized(np.arange(3), 2, 0, zeros)
    array([0, 1])
    >>> resized(np.arange(3), 5, 0, zeros)
    array([0, 1, 2, 0, 0])
    """
    shape = (*leaf.shape[:axis], size, *leaf.shape[axis + 1 :])
    kept = (slice(None),) * axis + (slice(size),)
    added = size - leaf.shape[axis]
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(shape=shape)
    if isinstance(leaf, np.ndarray):
        if added <= 0:
            return leaf[kept].copy()
        new = jax.jit(draw, static_argnums=2)(key, leaf, added)
        return np.concatenate([leaf, np.asarray(new).astype(leaf.dtype)], axis)

    def make(leaf: jax.Array, key: jax.Array | None) -> jax.Array:
        if added <= 0:
            return leaf[kept]
        return jnp.concatenate([leaf, draw(key, leaf, added).astype(leaf.dtype)], axis)

    return jax.jit(make, out_shardings=placement(leaf))(leaf, key)


def zeros(key: Any, leaf: Any, count: int) -> jax.Array:
    """Draws nothing: the `count` entries that join a vector are zero."""
    return jnp.zeros(count, leaf.dtype)


def like(value: Any, leaf: Any) -> Any:
    """A copy of `value`, of any shape, with the dtype of `leaf`, its kind of array and sharding."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(shape=value.shape)
    if isinstance(leaf, np.ndarray):
        return np.array(value, leaf.dtype)
    array = jnp.array(value, leaf.dtype)
    place = placement(leaf)
    return array if place is None else jax.device_put(array, place)


def transposed(leaf: Any) -> Any:
    """A copy of a matrix with its axes swapped, their names and sharding with them."""
    if isinstance(leaf, np.ndarray):
        return leaf.T.copy()
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.jit(jnp.transpose, out_shardings=_swapped(placement(leaf)))(leaf)
    names = getattr(leaf, "axes", None)
    named = {} if names is None else {"axes": names[::-1]}
    return leaf.update(shape=leaf.shape[::-1], sharding=_swapped(leaf.sharding), **named)


def placement(leaf: Any) -> Any:
    """The sharding that what is made of an array gets; None where JAX chooses: under `jit`, and of
    an array that is on its device by default."""
    return None if isinstance(leaf, Tracer) or not leaf.committed else leaf.sharding


def shards_along(leaf: Any, axis: int) -> int:
    """Into how many parts `axis` is cut; 1 for what is not on devices yet."""
    sharding = None if isinstance(leaf, Tracer) else getattr(leaf, "sharding", None)
    return 1 if sharding is None else leaf.shape[axis] // sharding.shard_shape(leaf.shape)[axis]


def _swapped(sharding: Any) -> Any:
    if not isinstance(sharding, NamedSharding):
        return sharding
    rows, columns = (*sharding.spec, None, None)[:2]
    spec = PartitionSpec(columns, rows)
    return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
