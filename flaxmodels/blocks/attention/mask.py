"""Attention masks: which keys each query attends to, by rules of where both stand (causal, windows,
chunks, segments; `&` and `|` compose them) and by which are tokens.

Source: `masking_utils.py` of Transformers 5.23.
"""

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct


class Reach(NamedTuple):
    """Bounds of a rule: a query at place p attends to no key before p - `behind`, and to none after
    p + `ahead`. None is no bound."""

    behind: int | None = None
    ahead: int | None = None


class Rule(abc.ABC):
    """Tells which queries attend to which keys by where both stand.

    Rules are pytrees: numbers are static, and what differs from row to row is an array.
    """

    @abc.abstractmethod
    def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
        """Returns bool [B or 1, 1, T, S] for queries at places int32 [T] and keys at [S]."""

    @property
    def reach(self) -> Reach:
        """Bounds outside of which the rule allows nothing, so that nothing is computed there."""
        return Reach()

    def __and__(self, other: "Rule") -> "Both":
        return Both(self, other)

    def __or__(self, other: "Rule") -> "Either":
        return Either(self, other)


@struct.dataclass
class Causal(Rule):
    """Allows keys at the place of the query and before it."""

    def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
        return _distance(query, key) >= 0

    @property
    def reach(self) -> Reach:
        return Reach(ahead=0)


@struct.dataclass
class Window(Rule):
    """Allows the `size` keys that end with the one at the query's place, and all later ones:
    `Causal() & Window(size)` is a sliding window."""

    size: int = struct.field(pytree_node=False)

    def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
        return _distance(query, key) < self.size

    @property
    def reach(self) -> Reach:
        return Reach(behind=self.size - 1)


@struct.dataclass
class TwoWayWindow(Rule):
    """Allows keys at most `size` places from the query, on either side."""

    size: int = struct.field(pytree_node=False)

    def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.abs(_distance(query, key)) <= self.size

    @property
    def reach(self) -> Reach:
        return Reach(self.size, self.size)


@struct.dataclass
class Chunk(Rule):
    """Allows keys in the chunk of the query, of `size` places each.

    Attributes:
        start: int32 [B], the place where the first chunk of a row begins: the number of padding
            tokens on its left; None for 0.
    """

    size: int = struct.field(pytree_node=False)
    start: jax.Array | None = None

    def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
        start = jnp.zeros(1, jnp.int32) if self.start is None else jnp.asarray(self.start)
        queries, keys = ((place[None] - start[:, None]) // self.size for place in (query, key))
        return (queries[:, :, None] == keys[:, None])[:, None]

    @property
    def reach(self) -> Reach:
        return Reach(self.size - 1, self.size - 1)


@struct.dataclass
class SameSegment(Rule):
    """Allows keys in the segment of the query: one of several sequences in a row, or an image.

    Attributes:
        ids: int [B or 1, L], the segment of each place; below 0, as outside of L, is in none.
    """

    ids: jax.Array

    def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
        ids = jnp.asarray(self.ids)
        queries, keys = (
            jnp.take(ids, place, axis=1, mode="fill", fill_value=-1) for place in (query, key)
        )
        same = queries[:, :, None] == keys[:, None]
        return (same & (queries >= 0)[:, :, None])[:, None]


@struct.dataclass
class Both(Rule):
    """Allows what both rules allow."""

    left: Rule
    right: Rule

    def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
        return self.left(query, key) & self.right(query, key)

    @property
    def reach(self) -> Reach:
        left, right = self.left.reach, self.right.reach
        return Reach(_tighter(left.behind, right.behind), _tighter(left.ahead, right.ahead))


@struct.dataclass
class Either(Rule):
    """Allows what one of two rules allows."""

    left: Rule
    right: Rule

    def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
        return self.left(query, key) | self.right(query, key)

    @property
    def reach(self) -> Reach:
        left, right = self.left.reach, self.right.reach
        return Reach(_wider(left.behind, right.behind), _wider(left.ahead, right.ahead))


def _distance(query: jax.Array, key: jax.Array) -> jax.Array:
    """Returns how many places each key stands before each query: int32 [1, 1, T, S]."""
    return (query[:, None] - key[None])[None, None]


def _tighter(left: int | None, right: int | None) -> int | None:
    bounds = [bound for bound in (left, right) if bound is not None]
    return min(bounds, default=None)


def _wider(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else max(left, right)


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
