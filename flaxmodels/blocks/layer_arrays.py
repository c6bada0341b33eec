"""The arrays that layers keep, one of each: read, written and spread where they are."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .. import sharding as fs

LayerArrays = tuple[jax.Array, ...] | jax.Array
"""[B, K, S, H] of each layer: an array each in a looped model, in a scanned one a stack of all."""


def zeros(shapes: Sequence[tuple[int, ...]], dtype: DTypeLike, *, stacked: bool) -> LayerArrays:
    """Makes the arrays of layers, each of a shape; stacked they are all of the first one's."""
    if stacked:
        return jnp.zeros((len(shapes), *shapes[0]), dtype)
    return tuple(jnp.zeros(shape, dtype) for shape in shapes)


def in_place(old: LayerArrays, slot, start, new: jax.Array, only: jax.Array | None) -> LayerArrays:
    """Writes new [B, T, K, H] into a layer's slots from `start` on, `only` as `KV.write` says."""
    update = jax.lax.dynamic_update_slice
    new = new.swapaxes(1, 2)
    if isinstance(old, tuple):
        layer = update(old[slot], new.astype(old[slot].dtype), start_at(0, 0, start, 0))
        return (*old[:slot], layer, *old[slot + 1 :])
    at, new = start_at(slot, 0, 0, start, 0), new[None].astype(old.dtype)
    if only is not None:  # what is there is written again, so that the stack is updated in place
        new = jnp.where(only, new, jax.lax.dynamic_slice(old, at, new.shape))
    return update(old, new, at)


def spread(arrays: LayerArrays, slot, rules: object) -> LayerArrays:
    """Hints at how the array of a layer, [B, K, S, H], is spread over the mesh of its tokens."""
    axes = ("batch", "cache_heads", "cache_length", None)
    if isinstance(arrays, tuple):
        return (*arrays[:slot], fs.constrain(arrays[slot], axes, rules), *arrays[slot + 1 :])
    return fs.constrain(arrays, (None, *axes), rules)


def layer_of(arrays: LayerArrays, slot) -> jax.Array:
    """Returns the array of a layer."""
    if isinstance(arrays, tuple):
        return arrays[slot]
    return jax.lax.dynamic_index_in_dim(arrays, slot, keepdims=False)


def with_layer(arrays: LayerArrays, slot, layer: jax.Array) -> LayerArrays:
    """Puts another array in the place of a layer's."""
    layer = layer.astype(arrays[0].dtype)
    if isinstance(arrays, tuple):
        return (*arrays[:slot], layer, *arrays[slot + 1 :])
    return jax.lax.dynamic_update_slice(arrays, layer[None], start_at(slot, 0, 0, 0, 0))


def start_at(*indices: int | jax.Array) -> list[np.int32 | jax.Array]:
    """Returns the start of a slice, all int32: in JAX's 64-bit mode a Python int would be int64.
    JAX must see which are constants: others it wraps around, since they might be negative."""
    return [np.int32(i) if isinstance(i, int) else jnp.asarray(i, jnp.int32) for i in indices]
