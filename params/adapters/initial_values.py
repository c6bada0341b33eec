"""Numbers that adapters begin with: drawn by name, abstract beside abstract weights, and on a mesh
where the weight is."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from ..quantized.qtensor import QTensor, swapped
from ..tree.weights import Shape
from .adapter import Base, dense_of

A = TypeVar("A")

Follows: TypeAlias = tuple[int | None, ...]
"""For each axis of an array, the axis of the weight that it lies on a mesh as, counted from the
end; None for one that is whole."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A weight that may be adapted.

    Attributes:
        base: without adapters.
        names: of its module, or of those of its layers, if it is of stacked ones.
        part: which of its uses an adapter is for.
    """

    path: str
    base: Base
    names: str | Sequence[str]
    part: str

    @property
    def layers(self) -> list[str]:
        """The names of all modules that it is of."""
        return [self.names] if isinstance(self.names, str) else [*self.names]

    @property
    def lead(self) -> int:
        """How many axes of layers it has in front."""
        return 0 if isinstance(self.names, str) else 1

    @property
    def axes(self) -> tuple[int, ...]:
        """Those that it has in front, counted from the end."""
        return (*range(-self.base.ndim, 0),)[: self.lead]

    @property
    def shape(self) -> Shape:
        """Its shape in one layer."""
        return tuple(self.base.shape[self.lead :])

    @property
    def is_abstract(self) -> bool:
        """Whether it has no values."""
        return isinstance(jax.tree.leaves(self.base)[0], jax.ShapeDtypeStruct)

    @property
    def is_table(self) -> bool:
        """Whether it is one of embeddings."""
        return self.path.endswith("embedding")

    @property
    def is_linear(self) -> bool:
        """Whether it is a kernel or a table."""
        return self.path.rpartition("/")[2] in ("kernel", "embedding") and len(self.shape) > 1


class Start(NamedTuple):
    """How an array of one layer begins.

    Attributes:
        shape: of one layer.
        kind: "zeros", "ones", "normal", "gaussian" (std 1 / r), or "uniform" up to 1 / sqrt(fan
            in), which is all but the last axis.
        rank: the axis of ranks.
    """

    shape: Shape
    follows: Follows
    kind: str
    rank: int | None = None


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Makes the arrays of new adapters.

    Attributes:
        key: typed; each array draws from the name of its module and its own.
        dtype: of the arrays.
        start: PEFT's `init_lora_weights`: True; "gaussian"; False, what is to be zero drawn too, so
            that the adapter changes something from the start.
    """

    key: jax.Array
    dtype: np.dtype
    start: bool | str = True

    def array(
        self, place: Place, field: str, start: Start, ranks: Sequence[int] | None = None
    ) -> jax.Array:
        """Makes an array beside a weight.

        Args:
            ranks: of each layer; what is beyond them is 0.
        """
        if place.is_abstract:
            return _abstract(place, start.shape, start.follows, self.dtype)
        kind = start.kind
        if self.start is False and kind == "zeros":
            kind = "uniform"
        elif self.start == "gaussian" and kind == "uniform":
            kind = "gaussian"
        lead, follows = (len(place.layers),) if place.lead else (), (*place.axes, *start.follows)
        if kind in _CONSTANTS:
            whole = np.full((*lead, *start.shape), _CONSTANTS[kind], self.dtype)
            return placed(whole, place.base, follows)
        numbers = [zlib.crc32(f"{name}.{field}".encode()) for name in place.layers]
        ranks = [0] * len(numbers) if ranks is None else ranks
        where = sharding_beside(place.base, follows)
        make = _drawn(start._replace(kind=kind), jnp.dtype(self.dtype), where)
        if lead:
            return make(_keys(self.key, np.array(numbers, np.uint32)), np.array(ranks, np.int32))
        return make(jax.random.fold_in(self.key, numbers[0]), np.int32(ranks[0]))

    def scales(self, place: Place, values: Sequence[float]) -> jax.Array:
        """Makes the scales of the layers, float32."""
        if place.is_abstract:
            return _abstract(place, (), (), jnp.float32)
        scales = np.array(values if place.lead else values[0], np.float32)
        return placed(scales, place.base, place.axes)

    def lengths(self, place: Place, of: Callable[[Base, A], jax.Array], adapter: A) -> jax.Array:
        """Makes vectors along the last axis of a weight, one a layer, as `of(base, adapter)`."""
        if place.is_abstract:
            return _abstract(place, (place.shape[-1],), (-1,), self.dtype)
        return of(place.base, adapter).astype(self.dtype)

    def copy(self, place: Place) -> jax.Array:
        """Returns a weight as an array of its own."""
        if place.is_abstract:
            axes = (*range(-len(place.shape), 0),)
            return _abstract(place, place.shape, axes, place.base.dtype)
        return jnp.array(dense_of(place.base))

    def rows(self, place: Place, rows: Sequence[int]) -> jax.Array:
        """Returns rows of a table, as it holds them now.

        Raises:
            ValueError: one that it does not have.
        """
        if max(rows) >= place.shape[0]:
            raise ValueError(f"{place.path} has no row {max(rows)}; there are {place.shape[0]}")
        if place.is_abstract:
            return _abstract(place, (len(rows), place.shape[1]), (None, -1), self.dtype)
        table = jnp.asarray(dense_of(place.base))
        return jnp.take(table, jnp.array(rows), axis=0).astype(self.dtype)


def _abstract(place: Place, shape: Shape, follows: Follows, dtype: np.dtype) -> Any:
    """Makes an abstract array beside an abstract weight, with logical axes if that has some."""
    shape = (*place.base.shape[: place.lead], *shape)
    base = jax.tree.leaves(place.base)[0]
    axes = getattr(base, "axes", None)
    if axes is None:
        return jax.ShapeDtypeStruct(shape, dtype)
    own = _following(place.base, axes, (*place.axes, *follows))
    return base.update(shape=shape, dtype=jnp.dtype(dtype), axes=own, sharding=None)


def placed(array: np.ndarray, base: Base, follows: Follows) -> jax.Array:
    """Puts an array beside a weight."""
    # Of NumPy: an array of this process, put onto devices of several, has shards of shards. A copy:
    # JAX may keep the memory, which may be a caller's. `jnp.asarray` compiles a program each shape.
    return jax.device_put(np.array(array), sharding_beside(base, follows))


def sharding_beside(base: Base, follows: Follows) -> NamedSharding | None:
    """Returns where an array beside a weight goes; None if that is on no mesh."""
    first = jax.tree.leaves(base)[0]
    where = None if isinstance(first, Tracer) else getattr(first, "sharding", None)
    if not isinstance(where, NamedSharding):
        return None
    spec = (*where.spec, *[None] * (first.ndim - len(where.spec)))
    return NamedSharding(where.mesh, PartitionSpec(*_following(base, spec, follows)))


def _following(base: Base, axes: tuple, follows: Follows) -> tuple:
    """Returns what the axes of an array beside a weight are on, of what those of the weight's first
    array are."""
    if isinstance(base, QTensor) and base.form.turned:
        axes = swapped(axes)
    return tuple(None if i is None else axes[i] for i in follows)


_CONSTANTS = {"zeros": 0, "ones": 1}


@jax.jit
def _keys(key: jax.Array, numbers: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


@functools.lru_cache(maxsize=256)
def _drawn(
    start: Start, dtype: np.dtype, sharding: NamedSharding | None
) -> Callable[..., jax.Array]:
    """Compiles the draw of one shape: (key, rank) -> array, of both of them or of stacks."""
    shape, kind = start.shape, start.kind

    def one(key: jax.Array, rank: jax.Array) -> jax.Array:
        x = _numbers(key, shape, kind, start.rank)
        if start.rank is not None:
            places = jax.lax.broadcasted_iota(jnp.int32, shape, start.rank % len(shape))
            x = jnp.where(places < rank, x, 0)
        return x.astype(dtype)

    def both(keys: jax.Array, ranks: jax.Array) -> jax.Array:
        return jax.vmap(one)(keys, ranks) if ranks.ndim else one(keys, ranks)

    return jax.jit(both, out_shardings=sharding)


def _numbers(key: jax.Array, shape: Shape, kind: str, rank: int | None) -> jax.Array:
    if kind == "uniform":
        bound = np.prod(shape[:-1]) ** -0.5
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    std = 1 / shape[rank] if kind == "gaussian" and rank is not None else 1.0
    return std * jax.random.normal(key, shape)
