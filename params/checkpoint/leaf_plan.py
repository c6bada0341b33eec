"""Leaf plans: what becomes of one leaf of a load, which parts of it devices hold, and which way it
takes to them."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Literal

import jax
import numpy as np

from ..formats.bounds import around, of_index, shape_of
from ..formats.source import Bounds
from ..host.copies import copy, empty
from .match import Piece

WASTE = 1.05
"""Bytes read over bytes held, above which another way to read is taken."""
PAGES = (4 << 10, 1 << 20)
"""Bytes read at least: of a disk, of a network."""


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
        slab: bytes that one device holds of a chunk at most.
        capacity: bytes of the pinned memory that a device gets its part of a chunk from; 0 where
            memory is not pinned.
    """

    axis: int
    step: int
    shares: tuple[str, ...]
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

    def read(self) -> np.ndarray:
        """Reads the leaf into host memory; a view of the file's bytes where they need no cast, and
        are not put together."""
        first = self.pieces[0]
        if len(self.pieces) == 1 and not first.index and first.tensor.dtype == self.dtype:
            return first.tensor.read().transpose(first.permutation)
        leaf = empty(self.shape, self.dtype)
        for piece in self.pieces:
            copy(piece.tensor.read().transpose(piece.permutation), leaf[(*piece.index, ...)])
        return leaf

    @property
    def shard_bytes(self) -> int:
        """Bytes that each device of the sharding holds."""
        return math.prod(self.sharding.shard_shape(self.shape)) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a leaf, and the devices of a process that hold it."""

    bounds: Bounds
    devices: tuple[jax.Device, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.bounds)


def local_shards(leaf: LeafPlan) -> list[Shard]:
    """Returns the parts of a leaf that this process's devices hold."""
    return _shards(leaf.sharding.addressable_devices_indices_map(leaf.shape), leaf.shape)


def groups(shards: list[Shard]) -> list[list[Shard]]:
    """Groups all shards if the box around them is hardly larger than they are, else each alone:
    the box around a group is read as one."""
    box = math.prod(shape_of(around(shard.bounds for shard in shards)))
    held = sum(math.prod(shard.shape) for shard in shards)
    return [shards] if box <= WASTE * held else [[shard] for shard in shards]


def read_by_busiest(leaf: LeafPlan) -> float:
    """Returns what the process that reads most reads for a leaf over its share of it, where each
    reads what its own devices hold; its share goes by how many devices it has.

    A run of bytes between others costs a page of a network more: processes may have some files on a
    disk and some not, and must decide alike.
    """
    where: dict[int, dict[jax.Device, tuple[slice, ...]]] = {}
    for device, index in leaf.sharding.devices_indices_map(leaf.shape).items():
        where.setdefault(device.process_index, {})[device] = index
    devices = sum(map(len, where.values()))
    size = math.prod(leaf.shape) * leaf.stored.itemsize
    return max(
        sum(_read(leaf, group) for group in groups(_shards(held, leaf.shape)))
        / (size * len(held) / devices)
        for held in where.values()
    )


def run_of(held: Iterable[int], stored: Iterable[int]) -> int:
    """Counts the elements that lie one after the other of a part of a tensor, by the sizes of the
    part and of the tensor."""
    run = 1
    for part, size in zip(reversed([*held]), reversed([*stored]), strict=True):
        run *= part
        if part != size:
            break
    return run


def _shards(
    where: Mapping[jax.Device, tuple[slice, ...] | None], shape: tuple[int, ...]
) -> list[Shard]:
    devices: dict[Bounds, list[jax.Device]] = {}
    for device, index in where.items():
        devices.setdefault(of_index(index, shape), []).append(device)
    return [Shard(bounds, tuple(holders)) for bounds, holders in devices.items()]


def _read(leaf: LeafPlan, group: list[Shard]) -> int:
    """Counts the bytes that are read for the box around shards."""
    first = leaf.pieces[0]
    lead, axes = len(first.index), np.argsort(first.permutation)
    box = shape_of(around(shard.bounds for shard in group))
    held = [box[lead + axis] for axis in axes]
    run = run_of(held, [leaf.shape[lead + axis] for axis in axes])
    runs = math.prod(held) // max(run, 1)
    page = PAGES[1] if runs > 1 else 0
    return math.prod(box[:lead]) * runs * (run * leaf.stored.itemsize + page)
