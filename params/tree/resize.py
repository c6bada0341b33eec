"""Resizing: one leaf with entries joined to the end of an axis or cut from it, or put in the place
of another, and still the kind of array, of the dtype, and where it was."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from ..types import Concrete, Leaf

Draw = Callable[[jax.Array | None, jax.Array, int], jax.Array]
"""(key, the leaf with the axis in front, how many) -> the entries to join to it."""


def resized(leaf: Leaf, size: int, axis: int, draw: Draw, key: jax.Array | None = None) -> Leaf:
    """Returns `leaf` with `size` entries along `axis`: its last cut, or what `draw` makes joined to
    them.

    >>> resized(np.arange(3), 2, 0, zeros)
    array([0, 1])
    >>> resized(np.arange(3), 5, 0, zeros)
    array([0, 1, 2, 0, 0])
    """
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(shape=(*leaf.shape[:axis], size, *leaf.shape[axis + 1 :]))
    if not isinstance(leaf, np.ndarray):
        make = jax.jit(_resized, static_argnums=(2, 3, 4), out_shardings=_result_sharding(leaf))
        return make(leaf, key, size, axis, draw)
    added = size - leaf.shape[axis]
    if added <= 0:
        return leaf[(slice(None),) * axis + (slice(size),)].copy()
    new = jax.jit(_drawn, static_argnums=(2, 3, 4))(leaf, key, added, axis, draw)
    return np.concatenate([leaf, np.asarray(new, leaf.dtype)], axis)


def _resized(leaf: jax.Array, key: jax.Array | None, size: int, axis: int, draw: Draw) -> jax.Array:
    added = size - leaf.shape[axis]
    if added <= 0:
        return jax.lax.slice_in_dim(leaf, 0, size, axis=axis)
    return jnp.concatenate([leaf, _drawn(leaf, key, added, axis, draw)], axis)


def _drawn(leaf: jax.Array, key: jax.Array | None, count: int, axis: int, draw: Draw) -> jax.Array:
    new = draw(key, jnp.moveaxis(leaf, axis, 0), count)
    return jnp.moveaxis(new, 0, axis).astype(leaf.dtype)


def zeros(key: jax.Array | None, leaf: jax.Array, count: int) -> jax.Array:
    """Draws nothing: the entries that join are zero."""
    return jnp.zeros((count, *leaf.shape[1:]), leaf.dtype)


def like(value: Concrete | jax.ShapeDtypeStruct, leaf: Leaf) -> Leaf:
    """Returns a copy of `value`, of any shape, with the dtype of `leaf`, its kind of array and
    sharding."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(shape=value.shape)
    if isinstance(leaf, np.ndarray):
        return np.array(value, leaf.dtype)
    array = jnp.array(value, leaf.dtype)
    place = _result_sharding(leaf)
    return array if place is None else jax.device_put(array, place)


def transposed(leaf: Leaf) -> Leaf:
    """Returns a copy of a matrix with its axes swapped, their names and sharding with them."""
    if isinstance(leaf, np.ndarray):
        return leaf.T.copy()
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.jit(jnp.transpose, out_shardings=_swapped(_result_sharding(leaf)))(leaf)
    names = getattr(leaf, "axes", None)
    named = {} if names is None else {"axes": names[::-1]}
    return leaf.update(shape=leaf.shape[::-1], sharding=_swapped(leaf.sharding), **named)


def shards_along(leaf: Leaf, axis: int) -> int:
    """Counts the parts that `axis` is cut into; 1 for what is not on devices yet."""
    sharding = None if isinstance(leaf, Tracer) else getattr(leaf, "sharding", None)
    return 1 if sharding is None else leaf.shape[axis] // sharding.shard_shape(leaf.shape)[axis]


def _result_sharding(leaf: jax.Array) -> jax.sharding.Sharding | None:
    """Returns the sharding that what is made of an array gets; None where JAX chooses: under `jit`,
    and of an array that is on its device by default."""
    return None if isinstance(leaf, Tracer) or not leaf.committed else leaf.sharding


def _swapped(sharding: jax.sharding.Sharding | None) -> jax.sharding.Sharding | None:
    if not isinstance(sharding, NamedSharding):
        return sharding
    rows, columns = (*sharding.spec, None, None)[:2]
    spec = PartitionSpec(columns, rows)
    return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
