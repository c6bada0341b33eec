"""Attention masks: which keys each query attends to, by where both stand and which are tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .mask_rules import Rule


class AttentionMask(NamedTuple):
    """Says which keys each query attends to: those that `rule` allows, of those in `tokens`.

    Attributes:
        rule: of places; None allows all.
        tokens: bool [B or 1, 1, T or 1, S], keys that are tokens and no padding, or pairs of a
            query and a key; None for all.
        queries: int32 [T], where the queries stand in their sequence; None for 0, 1, ..., T - 1.
        keys: int32 [S], where the keys stand, -1 in a slot without one; None for 0, 1, ..., S - 1.
    """

    rule: Rule | None = None
    tokens: jax.Array | None = None
    queries: jax.Array | None = None
    keys: jax.Array | None = None

    @property
    def in_order(self) -> bool:
        """Whether query t stands at place t and key s at place s, known while tracing."""
        return self.queries is None and self.keys is None

    def places(self, queries: int, keys: int) -> tuple[jax.Array, jax.Array]:
        """Returns the places int32 [T], [S] of T = `queries` and S = `keys`."""
        places = (self.queries, self.keys)
        made = (jnp.arange(length, dtype=jnp.int32) for length in (queries, keys))
        query, key = (p if q is None else jnp.asarray(q) for q, p in zip(places, made, strict=True))
        return query, key

    def array(self, queries: int, keys: int) -> jax.Array | None:
        """Returns bool [B or 1, 1, T or 1, S] for T = `queries` and S = `keys`, or None where every
        query attends to every key."""
        mask = self.tokens
        query, key = self.places(queries, keys)
        if self.rule is not None:
            mask = _both(mask, self.rule(query, key))
        return mask if self.keys is None else _both(mask, (key >= 0)[None, None, None])


def _both(mask: jax.Array | None, other: jax.Array) -> jax.Array:
    return other if mask is None else mask & other


def token_mask(attention_mask: jax.Array | None, length: int) -> jax.Array | None:
    """Turns a caller's mask into the `tokens` of an `AttentionMask`: bool [B, 1, T or 1, T], or
    None for everywhere.

    Args:
        attention_mask: [B, T] over tokens or [B, T, T] over pairs (query, key), nonzero = attend.
        length: T.
    """
    if attention_mask is None:
        return None
    mask = jnp.asarray(attention_mask).astype(bool)
    if mask.ndim == 2 and mask.shape[1] == length:
        return mask[:, None, None]
    if mask.ndim == 3 and mask.shape[1:] == (length, length):
        return mask[:, None]
    raise ValueError(
        f"attention_mask {mask.shape}: expected [B, {length}] over tokens, or "
        f"[B, {length}, {length}] over pairs of them"
    )
