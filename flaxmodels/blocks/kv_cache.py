"""The KV cache: keys and values of tokens already seen, in a pytree of fixed shape."""

import dataclasses
from collections.abc import Sequence
from typing import Self

import jax
import jax.numpy as jnp
from flax import struct

_Arrays = tuple[jax.Array, ...] | jax.Array


@struct.dataclass
class Cache:
    """Holds slots for S tokens of every layer, of which the first `index` are filled.

    A looped model has one array per layer, a scanned one a stack of all. Each is written in place
    when the cache is donated, or carried by `lax.while_loop`. Heads come before slots, so that
    attention reads the slots of a head one after another: slots first, as everywhere else, would
    transpose the whole cache for every token. More than S tokens must not be written: a forward
    pass refuses them where `index` is known, and under `jit` they would overwrite the last slots.

    Attributes:
        keys: per layer [B, K, S, H], or stacked [L, B, K, S, H].
        values: as keys.
        mask: bool [B, S], which slots hold a token rather than padding.
        index: int32 [], the number of slots filled.
    """

    keys: _Arrays
    values: _Arrays
    mask: jax.Array
    index: jax.Array

    def claim(self, attention_mask: jax.Array | None, length: int) -> Self:
        """Marks the next `length` slots as `attention_mask` [B or 1, T] says.

        None marks them all as tokens. `index` stays until `advance`: layers write there first.
        """
        shape = (self.mask.shape[0], length)
        if attention_mask is None:
            attention_mask = jnp.ones(shape, bool)
        given = jnp.shape(attention_mask)
        if given not in (shape, (1, length)):
            raise ValueError(
                f"attention_mask {given}: with a cache it covers the new tokens alone, "
                f"{list(shape)}"
            )
        marks = jnp.broadcast_to(jnp.asarray(attention_mask).astype(bool), shape)
        new = jax.lax.dynamic_update_slice(self.mask, marks, _start(0, self.index))
        return dataclasses.replace(self, mask=new)

    def write(
        self, layer: int | jax.Array, keys: jax.Array, values: jax.Array
    ) -> tuple[jax.Array, jax.Array, Self]:
        """Puts new keys and values [B, T, K, H] of a layer into the slots from `index` on.

        Returns:
            all keys [B, S, K, H] and values of that layer, and the new cache.
        """
        all_keys, new_keys = self._put(self.keys, layer, keys)
        all_values, new_values = self._put(self.values, layer, values)
        return all_keys, all_values, dataclasses.replace(self, keys=new_keys, values=new_values)

    def advance(self, length: int) -> Self:
        """Returns the cache with `length` more slots filled."""
        return dataclasses.replace(self, index=self.index + length)

    def _put(self, old: _Arrays, layer, new: jax.Array) -> tuple[jax.Array, _Arrays]:
        update = jax.lax.dynamic_update_slice
        new = new.swapaxes(1, 2)
        if isinstance(old, tuple):
            start = _start(0, 0, self.index, 0)
            of_layer = update(old[layer], new.astype(old[layer].dtype), start)
            return of_layer.swapaxes(1, 2), (*old[:layer], of_layer, *old[layer + 1 :])
        start = _start(layer, 0, 0, self.index, 0)
        stack = update(old, new[None].astype(old.dtype), start)
        of_layer = jax.lax.dynamic_index_in_dim(stack, layer, keepdims=False)
        return of_layer.swapaxes(1, 2), stack


def _start(*indices: int | jax.Array) -> list[jax.Array]:
    """Returns the start of a slice, all int32: in JAX's 64-bit mode a Python int would be int64."""
    return [jnp.asarray(index, jnp.int32) for index in indices]


def init_cache(
    *,
    batch_size: int,
    max_length: int,
    num_heads: Sequence[int],
    head_dim: int,
    dtype: jax.typing.DTypeLike,
    stacked: bool,
) -> Cache:
    """Makes an empty cache for B = `batch_size` sequences and S = `max_length` slots, in layers of
    `num_heads` key-value heads each; stacked for a model that scans them."""
    shapes = [(batch_size, heads, max_length, head_dim) for heads in num_heads]

    def arrays() -> _Arrays:
        if stacked:
            return jnp.zeros((len(shapes), *shapes[0]), dtype)
        return tuple(jnp.zeros(shape, dtype) for shape in shapes)

    mask = jnp.zeros((batch_size, max_length), bool)
    return Cache(keys=arrays(), values=arrays(), mask=mask, index=jnp.zeros((), jnp.int32))
