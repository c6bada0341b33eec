"""Resizing: one leaf with entries joined to the end of an axis or cut from it, or put in the place
of another, and still the kind of array, of the dtype, and where it was."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from ..types import Concrete, Leaf

Draw = Callable[[jax.Array | None, jax.Array, int], jax.Array]
"""(key, the leaf with the axis in front, how many) -> the entries to join to it."""


def on_device(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Wraps a function of a leaf that is to be compiled: a leaf that is kept in host memory, of
    which nothing can be computed there, comes from it, and the result goes back."""

    @functools.wraps(function)
    def of(leaf: jax.Array, *others: Any) -> jax.Array:
        if getattr(jax.typeof(leaf), "memory_space", None) != jax.memory.Space.Host:
            return function(leaf, *others)
        made = function(jax.device_put(leaf, jax.memory.Space.Device), *others)
        return jax.device_put(made, jax.memory.Space.Host)

    return of


def zeros(key: jax.Array | None, leaf: jax.Array, count: int) -> jax.Array:
    """Draws nothing: the entries that join are zero."""
    return jnp.zeros((count, *leaf.shape[1:]), leaf.dtype)


class _Task(NamedTuple):
    """What becomes of one leaf in a program: which of the keys is its own, its size along an axis,
    and whether it is joined here or, an array of the host, by NumPy."""

    number: int
    size: int
    axis: int
    draw: Draw
    joined: bool


def resized(
    leaves: Mapping[str, Leaf],
    size: int,
    axes: Mapping[str, int],
    draws: Mapping[str, Draw] = MappingProxyType({}),
    key: jax.Array | None = None,
) -> dict[str, Leaf]:
    """Returns leaves with `size` entries along an axis each: the last cut, or what a leaf's draw
    makes joined to them, zeros where it has none. Those that are in one place take one program.

    >>> resized({"a": np.arange(3)}, 2, {"a": 0})
    {'a': array([0, 1])}
    >>> resized({"a": np.arange(3)}, 5, {"a": 0})
    {'a': array([0, 1, 2, 0, 0])}
    """
    done: dict[str, Leaf] = {}
    places: dict[object, dict[str, tuple[Concrete, _Task]]] = {}
    for number, (path, leaf) in enumerate(leaves.items()):
        axis, on_host = axes[path], isinstance(leaf, np.ndarray)
        if isinstance(leaf, jax.ShapeDtypeStruct):
            done[path] = leaf.update(shape=(*leaf.shape[:axis], size, *leaf.shape[axis + 1 :]))
        elif on_host and size <= leaf.shape[axis]:
            done[path] = leaf[(slice(None),) * axis + (slice(size),)].copy()
        else:
            task = _Task(number, size, axis, draws.get(path, zeros), not on_host)
            places.setdefault(_place(leaf), {})[path] = leaf, task
    for there in places.values():
        given, tasks = zip(*there.values(), strict=True)
        ends = tuple(map(result_sharding, given))
        make = jax.jit(_resized, static_argnums=(2, 3), out_shardings=ends)
        made = make(given, key, tasks, len(leaves))
        for (path, (leaf, task)), new in zip(there.items(), made, strict=True):
            host = None if task.joined else [leaf, np.asarray(new, leaf.dtype)]
            done[path] = np.concatenate(host, task.axis) if host else new
    return {path: done[path] for path in leaves}


def _resized(
    leaves: tuple[jax.Array, ...], key: jax.Array | None, tasks: tuple[_Task, ...], count: int
) -> tuple[jax.Array, ...]:
    keys = [None] * count if key is None else jax.random.split(key, count)

    @on_device
    def one(leaf: jax.Array, task: _Task) -> jax.Array:
        axis, added = task.axis, task.size - leaf.shape[task.axis]
        if added <= 0:
            return jax.lax.slice_in_dim(leaf, 0, task.size, axis=axis)
        new = task.draw(keys[task.number], jnp.moveaxis(leaf, axis, 0), added)
        new = jnp.moveaxis(new, 0, axis).astype(leaf.dtype)
        return jnp.concatenate([leaf, new], axis) if task.joined else new

    return tuple(map(one, leaves, tasks))


def _place(leaf: Concrete) -> object:
    """Returns what is equal for leaves that one program can take: where they must stay."""
    sharding = result_sharding(leaf)
    if sharding is None:
        return None
    devices = sharding.mesh if isinstance(sharding, NamedSharding) else sharding
    return devices, sharding.memory_kind


def like(value: Concrete | jax.ShapeDtypeStruct, leaf: Leaf) -> Leaf:
    """Returns a copy of `value`, of any shape, with the dtype of `leaf`, its kind of array and
    sharding."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(shape=value.shape)
    if isinstance(leaf, np.ndarray):
        return np.array(value, leaf.dtype)
    array = jnp.array(value, leaf.dtype)
    place = result_sharding(leaf)
    return array if place is None else jax.device_put(array, place)


_transpose = on_device(jnp.transpose)


def transposed(leaf: Leaf) -> Leaf:
    """Returns a copy of a matrix with its axes swapped, their names and sharding with them."""
    if isinstance(leaf, np.ndarray):
        return leaf.T.copy()
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.jit(_transpose, out_shardings=_swapped(result_sharding(leaf)))(leaf)
    names = getattr(leaf, "axes", None)
    named = {} if names is None else {"axes": names[::-1]}
    return leaf.update(shape=leaf.shape[::-1], sharding=_swapped(leaf.sharding), **named)


def shards_along(leaf: Leaf, axis: int) -> int:
    """Counts the parts that `axis` is cut into; 1 for what is not on devices yet."""
    sharding = None if isinstance(leaf, Tracer) else getattr(leaf, "sharding", None)
    return 1 if sharding is None else leaf.shape[axis] // sharding.shard_shape(leaf.shape)[axis]


def result_sharding(leaf: Concrete) -> jax.sharding.Sharding | None:
    """Returns the sharding that what is made of an array gets; None where JAX chooses: under `jit`,
    of an array of the host, and of one that is on its device by default."""
    if isinstance(leaf, np.ndarray | Tracer) or not leaf.committed:
        return None
    return leaf.sharding


def _swapped(sharding: jax.sharding.Sharding | None) -> jax.sharding.Sharding | None:
    if not isinstance(sharding, NamedSharding):
        return sharding
    rows, columns = (*sharding.spec, None, None)[:2]
    spec = PartitionSpec(columns, rows)
    return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
