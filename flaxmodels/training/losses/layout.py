"""How tokens are laid out in chunks: each device has chunks of its own tokens."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from ... import sharding as fs
from ...core.deferred import DeferredLogits, logical_axes
from ...params.scalars import whole


@dataclasses.dataclass(frozen=True)
class Layout:
    """Tokens [...] as chunks [n, P, C], of which chunk i has C tokens of each of P shards.

    Attributes:
        lead: the shape of the tokens, [...].
        parts: into how many shards each of these axes is split; P is their product.
        count: n.
        size: C; n * C may be more than there are tokens in a shard.
        mesh: None without one.
        axes: of the mesh, over which the P shards are.
        vocab: of the mesh, over which V is split.
    """

    lead: tuple[int, ...]
    parts: tuple[int, ...]
    count: int
    size: int
    mesh: Mesh | AbstractMesh | None = None
    axes: tuple[str, ...] = ()
    vocab: tuple[str, ...] = ()

    def chunks(self, x: jax.Array, padding: float = 0) -> jax.Array:
        """Lays out x [..., *rest] as [n, P, C, *rest]."""
        rank, rest = len(self.lead), x.shape[len(self.lead) :]
        x = x.reshape(*self._split, *rest)
        outer, inner = range(0, 2 * rank, 2), range(1, 2 * rank, 2)
        x = x.transpose(*outer, *inner, *range(2 * rank, x.ndim))
        x = x.reshape(math.prod(self.parts), self._tokens, *rest)
        more = self.count * self.size - self._tokens
        x = jnp.pad(x, [(0, 0), (0, more), *[(0, 0)] * len(rest)], constant_values=padding)
        x = jnp.moveaxis(x.reshape(x.shape[0], self.count, self.size, *rest), 1, 0)
        return self._constrained(x, None, self.axes)

    def joined(self, x: jax.Array) -> jax.Array:
        """Returns [n, P, C] as tokens [...]."""
        rank = len(self.lead)
        x = jnp.moveaxis(x, 0, 1).reshape(math.prod(self.parts), -1)[:, : self._tokens]
        x = x.reshape(*self._split[::2], *self._split[1::2])
        x = x.transpose(
            [axis for pair in zip(range(rank), range(rank, 2 * rank), strict=True) for axis in pair]
        )
        return x.reshape(self.lead)

    def hint(self, x: jax.Array, *, vocab: bool = False) -> jax.Array:
        """Tells the compiler that x [P, ...] has a shard in each place and, if `vocab`, that its
        last axis is V."""
        free = PartitionSpec.UNCONSTRAINED
        if vocab:
            return self._constrained(x, self.axes, *(None,) * (x.ndim - 2), self.vocab or None)
        return self._constrained(x, self.axes, *(free,) * (x.ndim - 1))

    @property
    def numbers(self) -> jax.Array:
        """A number for each chunk of each shard, int32 [n, P]."""
        shards = math.prod(self.parts)
        return jnp.arange(self.count * shards, dtype=jnp.int32).reshape(self.count, shards)

    @property
    def _split(self) -> tuple[int, ...]:
        """(parts, tokens of a part) of each axis of tokens, one after the other."""
        both = zip(self.lead, self.parts, strict=True)
        return tuple(n for size, parts in both for n in (parts, size // parts))

    @property
    def _tokens(self) -> int:
        return math.prod(self.lead) // math.prod(self.parts)

    def _constrained(self, x: jax.Array, *entries: object) -> jax.Array:
        if self.mesh is None:
            return x
        sharding = NamedSharding(self.mesh, PartitionSpec(*(entry or None for entry in entries)))
        return jax.lax.with_sharding_constraint(x, sharding)


def layout_of(logits: DeferredLogits, chunk: int) -> Layout:
    """Decides how the tokens of logits are laid out in chunks of at most `chunk` for each shard;
    these are as equal as can be.

    Raises:
        ValueError: a chunk of less than one token.
    """
    chunk = whole("chunk", chunk)
    hidden, lead = logits.hidden, logits.hidden.shape[:-1]
    # The last axis is D, not V; that of logits may be split whatever its size.
    split = fs.activation_axes(hidden, logical_axes(hidden.ndim), logits.rules)
    mesh = None if split is None else jax.typeof(hidden).sharding.mesh
    sizes = {} if mesh is None else mesh.shape
    *tokens, vocab = split or ((),) * hidden.ndim
    parts = tuple(math.prod(sizes[axis] for axis in axes) for axes in tokens)
    here = math.prod(lead) // math.prod(parts)
    many = max(-(-here // chunk), 1)
    axes = tuple(axis for each in tokens for axis in each)
    return Layout(lead, parts, many, -(-here // many), mesh, axes, vocab)
