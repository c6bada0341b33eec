"""Caches: keys and values of the tokens already seen, in a pytree of fixed shape."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import struct
from jax.export import is_symbolic_dim

from ..params.scalars import whole
from ..params.tree.cast import parse_dtype
from .layer_arrays import LayerArrays, in_place, layer_of, spread, start_at, with_layer, zeros

Read = Callable[[], tuple[jax.Array, jax.Array]]
"""Gives all keys [B, S, K, H] and values that new tokens attend to. A scan over layers of several
kinds writes into the entry of each and reads one of them: arrays that a branch wrote, XLA would
copy."""


@struct.dataclass
class KV:
    """Keys and values of all tokens, in the layers of one kind.

    A looped model has one array per layer, a scanned one a stack of all. Each is written in place
    when the cache is donated, or carried by `lax.while_loop`. Heads come before slots, so that
    attention reads the slots of a head one after another: slots first, as everywhere else, would
    transpose the whole cache for every token.

    Attributes:
        keys: per layer [B, K, S, H], or stacked [L, B, K, S, H].
        values: as keys; their H may be another.
    """

    keys: LayerArrays
    values: LayerArrays

    @property
    def spec(self) -> "CacheSpec":
        """The layers, rows and slots that there is room for, without the length of a window."""
        keys, values = self.keys, self.values
        layers = keys if isinstance(keys, tuple) else (keys,) * len(keys)
        value = values[0] if isinstance(values, tuple) else values
        heads = tuple(layer.shape[-3] for layer in layers)
        return CacheSpec(heads, layers[0].shape[-1], value.shape[-1])

    def places(self, index: jax.Array, length: int) -> jax.Array | None:
        """Returns the places int32 [S] of the keys that a pass of `length` tokens attends to; None
        for 0, 1, ..."""
        return None

    def write(
        self,
        slot: int | jax.Array,
        index: jax.Array,
        k: jax.Array,
        v: jax.Array,
        only: jax.Array | None = None,
    ) -> tuple[Read, Self]:
        """Puts k and v [B, T, K, H] of a layer into the slots from `index` on.

        Args:
            only: bool [], whether to; None for yes.

        Returns:
            what the new tokens attend to, and the new entry.
        """
        read_k, keys = self._put(self.keys, slot, index, k, only)
        read_v, values = self._put(self.values, slot, index, v, only)
        new = dataclasses.replace(self, keys=keys, values=values)
        return lambda: (read_k(), read_v()), new

    def spread(self, slot: int | jax.Array, rules: object) -> Self:
        """Hints at how the arrays of a layer are spread over the mesh of its tokens, as
        `fs.constrain`."""
        keys, values = (spread(arrays, slot, rules) for arrays in (self.keys, self.values))
        return dataclasses.replace(self, keys=keys, values=values)

    def _put(
        self, old: LayerArrays, slot, index, new: jax.Array, only: jax.Array | None
    ) -> tuple[Callable[[], jax.Array], LayerArrays]:
        made = in_place(old, slot, index, new, only)
        return lambda: layer_of(made, slot).swapaxes(1, 2), made


@struct.dataclass
class Ring(KV):
    """Keys and values of the last W tokens, for layers that see no more: the token at place p is in
    slot p modulo W. Memory is that of the window, whatever the length.

    Several tokens at once attend to the W before them and to themselves; one attends to the ring.
    """

    def places(self, index: jax.Array, length: int) -> jax.Array:
        if length == 1:
            return self._held(index + 1)
        return jnp.concatenate([self._held(index), index + jnp.arange(length, dtype=jnp.int32)])

    def _held(self, count: jax.Array) -> jax.Array:
        """Returns the place that each slot holds once `count` tokens are written, -1 for none."""
        size = (self.keys[0] if isinstance(self.keys, tuple) else self.keys).shape[-2]
        place = count - 1 - (count - 1 - jnp.arange(size, dtype=jnp.int32)) % size
        return jnp.maximum(place, -1)

    def _put(
        self, old: LayerArrays, slot, index, new: jax.Array, only: jax.Array | None
    ) -> tuple[Callable[[], jax.Array], LayerArrays]:
        length = new.shape[1]
        if length == 1:
            size = (old[0] if isinstance(old, tuple) else old).shape[-2]
            return super()._put(old, slot, index % size, new, only)
        before = layer_of(old, slot)
        places = self._held(index + length) - index  # of the new tokens; negative: an older one
        new = new.swapaxes(1, 2).astype(before.dtype)
        kept = jnp.take(new, jnp.maximum(places, 0), axis=2)
        written = places >= 0 if only is None else (places >= 0) & only
        after = jnp.where(written[None, None, :, None], kept, before)
        seen = lambda: jnp.concatenate([before, new], axis=2).swapaxes(1, 2)  # noqa: E731
        return seen, with_layer(old, slot, after)


@struct.dataclass
class Cross:
    """Keys and values of an encoder's states, in all layers, written by the first call.

    Attributes:
        keys, values: as in `KV`.
        tokens: bool [B, 1, 1, S], which states are of tokens.
    """

    keys: LayerArrays
    values: LayerArrays
    tokens: jax.Array


@struct.dataclass
class Cache:
    """Holds what layers keep of S tokens, of which the first `index` are there.

    More than S tokens must not be written: a forward pass refuses them where `index` is known, and
    under `jit` they would overwrite the last slots.

    Attributes:
        entries: {attention kind: `KV` or `Ring`}, in which a layer has the slot `At.slot`.
        mask: bool [B, S], which places hold a token rather than padding.
        index: int32 [], the number of places filled.
        cross: of an encoder that was attended to; None before.
    """

    entries: dict[str, KV]
    mask: jax.Array
    index: jax.Array
    cross: Cross | None = None

    def claim(self, attention_mask: jax.Array | None, length: int) -> Self:
        """Marks the next `length` places as `attention_mask` [B or 1, T] says.

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
        new = jax.lax.dynamic_update_slice(self.mask, marks, start_at(0, self.index))
        return dataclasses.replace(self, mask=new)

    def tokens_at(self, places: jax.Array | None) -> jax.Array:
        """Returns bool [B, 1, 1, S]: which of the places hold a token; None stands for all."""
        if places is None:
            return self.mask[:, None, None]
        there = jnp.take(self.mask, jnp.maximum(places, 0), axis=1) & (places >= 0)[None]
        return there[:, None, None]

    def write(
        self,
        attention: str,
        slot: int | jax.Array,
        k: jax.Array,
        v: jax.Array,
        only: jax.Array | None = None,
        *,
        rules: object = None,
    ) -> tuple[Read, Self]:
        """Puts the new tokens' k and v [B, T, K, H] of a layer into its entry, as `KV.write`.

        Args:
            rules: by which the entry is spread over the mesh of k and v.

        Returns:
            what they attend to, and the new cache.
        """
        read, entry = self.entries[attention].write(slot, self.index, k, v, only)
        entry = entry.spread(slot, rules)
        return read, dataclasses.replace(self, entries=self.entries | {attention: entry})

    def with_cross(self, tokens: jax.Array, heads: tuple[int, int]) -> Self:
        """Returns the cache with room for an encoder's states, of which `tokens` bool [B, 1, 1, S]
        says which count, in `heads` = (K, H)."""
        count, width = heads
        layers = [entry.keys for entry in self.entries.values()]
        depth, dtype = sum(map(len, layers)), layers[0][0].dtype
        shape = (tokens.shape[0], count, tokens.shape[-1], width)
        empty = zeros([shape] * depth, dtype, stacked=not isinstance(layers[0], tuple))
        return dataclasses.replace(self, cross=Cross(empty, empty, tokens))

    def write_cross(self, layer: int | jax.Array, k: jax.Array, v: jax.Array) -> Self:
        """Keeps k and v [B, S, K, H] of a layer, of all states of the encoder."""
        cross = self.cross
        assert cross is not None
        keys, values = (
            with_layer(old, layer, new.swapaxes(1, 2))
            for old, new in ((cross.keys, k), (cross.values, v))
        )
        return dataclasses.replace(self, cross=dataclasses.replace(cross, keys=keys, values=values))

    def cross_at(self, layer: int | jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns what a layer keeps of the encoder: keys [B, S, K, H] and values."""
        cross = self.cross
        assert cross is not None
        keys, values = (layer_of(x, layer).swapaxes(1, 2) for x in (cross.keys, cross.values))
        return keys, values

    def advance(self, length: int) -> Self:
        """Returns the cache with `length` more places filled."""
        return dataclasses.replace(self, index=self.index + length)


class CacheSpec(NamedTuple):
    """The entry of one kind of layers.

    Attributes:
        num_heads: key-value heads of each layer.
        key_dim, value_dim: widths of a head.
        window: how many tokens a layer sees; None for all.
    """

    num_heads: tuple[int, ...]
    key_dim: int
    value_dim: int
    window: int | None = None


def init_cache(
    specs: Mapping[str, CacheSpec],
    *,
    batch_size: int,
    max_length: int,
    dtype: jax.typing.DTypeLike,
    stacked: bool,
) -> Cache:
    """Makes an empty cache for B = `batch_size` sequences of at most S = `max_length` tokens;
    stacked for a model that scans its layers.

    Raises:
        TypeError: a size that is no number, or not known while a program is traced.
        ValueError: a size below 1, or a dtype that holds no keys.
    """
    for name, size in (("batch_size", batch_size), ("max_length", max_length)):
        if not is_symbolic_dim(size):
            whole(name, size)
    dtype = parse_dtype(dtype)

    def entry(spec: CacheSpec) -> KV:
        window = spec.window
        slots = max_length if window is None else min(window, max_length)

        def arrays(width: int) -> LayerArrays:
            shapes = [(batch_size, heads, slots, width) for heads in spec.num_heads]
            return zeros(shapes, dtype, stacked=stacked)

        kind = KV if slots == max_length else Ring
        return kind(keys=arrays(spec.key_dim), values=arrays(spec.value_dim))

    mask = jnp.zeros((batch_size, max_length), bool)
    entries = {attention: entry(spec) for attention, spec in specs.items()}
    return Cache(entries=entries, mask=mask, index=jnp.zeros((), jnp.int32))
