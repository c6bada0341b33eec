"""Leaf plans: what becomes of one leaf of a load, and which way it takes to its devices."""

import dataclasses
import math
from typing import Literal

import jax
import numpy as np

from .match import Piece


@dataclasses.dataclass(frozen=True)
class Cut:
    """How a leaf that its devices transform is cut: into chunks of its stored tensors.

    Attributes:
        axis: of a stored tensor, along which it is cut; of the axes before it a chunk has one
            number, of those after it all.
        step: numbers along `axis` that a chunk has of every shard.
        shares: mesh axes along which devices need the same bytes, or other columns of the same
            rows: each reads a share of the rows, and they exchange them. None if empty: each
            reads what it holds.
        read: bytes that the busiest process reads for a chunk of all its shards.
        slab: bytes that one device holds of a chunk at most.
        capacity: bytes of the pinned memory that a device gets its part of a chunk from; 0 where
            memory is not pinned.
    """

    axis: int
    step: int
    shares: tuple[str, ...]
    read: int
    slab: int
    capacity: int = 0


@dataclasses.dataclass(frozen=True)
class Route:
    """Which way a leaf takes.

    Attributes:
        kind: "host": put together, or transposed, in host memory; "device": sent in chunks as it is
            stored, and transformed there; "packed": so too, whole, with other small leaves.
        cut: of "device".
        why: of "host", where the others were asked for: what stands against them.
    """

    kind: Literal["host", "device", "packed"] = "host"
    cut: Cut | None = None
    why: str = ""

    def __str__(self) -> str:
        if self.cut is not None:
            over = f", exchanged over {' x '.join(self.cut.shares)}" if self.cut.shares else ""
            return f"device{over}"
        return f"{self.kind}: {self.why}" if self.why else self.kind


@dataclasses.dataclass(frozen=True)
class LeafPlan:
    """One leaf: where it comes from and what becomes of it.

    Attributes:
        dtype: what it is cast to on its way.
        stored: what the checkpoint holds.
        committed: whether the leaf was told where to be; if not, it is on the default device as
            any other array, and goes where it is computed with.
    """

    path: str
    shape: tuple[int, ...]
    stored: np.dtype
    dtype: np.dtype
    sharding: jax.sharding.Sharding
    pieces: tuple[Piece, ...]
    committed: bool = True
    route: Route = Route()

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def shard_bytes(self) -> int:
        """Bytes that each device of the sharding holds."""
        return math.prod(self.sharding.shard_shape(self.shape)) * self.dtype.itemsize
