"""Grids: how the shards of a leaf lie in the tensors that a checkpoint stores.

Every device goes through its own shard in the same order, chunk by chunk, so that one program with
traced starts serves all chunks of all devices, and writes into nothing but its device's own shard.
"""

import dataclasses
import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from ...formats.bounds import of_index
from ...formats.source import Bounds
from ..leaf_plan import Cut, LeafPlan
from ..match import Piece

Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Grid:
    """A leaf over its devices.

    Attributes:
        mesh: of the devices; None where there is one, without a mesh.
        names: the mesh axes along which each axis of the leaf is divided.
        shape: of the leaf.
        local: of a shard.
        lead: how many axes of the leaf number the tensors that it is made of.
        permutation: of such a tensor's axes, which makes those of the leaf that follow.
    """

    mesh: Mesh | None
    names: tuple[Names, ...]
    shape: tuple[int, ...]
    local: tuple[int, ...]
    lead: int
    permutation: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """The leaf's axis that each axis of a stored tensor becomes."""
        return tuple(self.lead + int(axis) for axis in np.argsort(self.permutation))

    def stored(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Returns sizes of the leaf's axes in the order of a stored tensor's."""
        return tuple(sizes[axis] for axis in self.axes)

    def count(self, names: Names) -> int:
        """Counts the devices along mesh axes."""
        return 1 if self.mesh is None else math.prod(self.mesh.shape[name] for name in names)

    @property
    def unused(self) -> Names:
        """The mesh axes along which devices hold the same."""
        used = {*itertools.chain(*self.names)}
        names = () if self.mesh is None else self.mesh.axis_names
        return tuple(name for name in names if name not in used and self.count((name,)) > 1)

    def across(self, axis: int) -> tuple[tuple[int, Names], ...]:
        """Returns (stored axis, the mesh axes that divide it) of those after `axis`."""
        behind = range(axis + 1, len(self.axes))
        pairs = ((i, self.names[self.axes[i]]) for i in behind)
        return tuple((i, names) for i, names in pairs if self.count(names) > 1)

    def starts(self, cut: Cut) -> Iterator[tuple[int, ...]]:
        """Yields where in a shard each chunk begins, by the axes of the leaf. The last one overlaps
        the one before: all have one shape."""
        sizes = self.stored(self.local)
        rows = sizes[cut.axis]
        cuts = (min(start, rows - cut.step) for start in range(0, rows, cut.step))
        ranges = [range(size) for size in (*self.local[: self.lead], *sizes[: cut.axis])]
        order = (*range(self.lead), *self.axes)
        for found in itertools.product(*ranges, cuts):
            start = [0] * len(self.shape)
            for axis, value in zip(order, found, strict=False):
                start[axis] = value
            yield tuple(start)

    def chunks(self, cut: Cut) -> int:
        """Counts the chunks of a shard."""
        sizes = self.stored(self.local)
        before = math.prod(self.local[: self.lead]) * math.prod(sizes[: cut.axis])
        return before * -(-sizes[cut.axis] // cut.step)

    def share_rows(self, cut: Cut) -> int:
        """Returns how many of a chunk's rows a device reads: its share, rounded up."""
        return -(-cut.step // self.count(cut.shares))

    def chunk(self, cut: Cut) -> tuple[int, ...]:
        """Returns the shape of what a device gets of a chunk, by the axes of a stored tensor."""
        sizes = self.stored(self.shape if cut.shares else self.local)
        return (*(1,) * cut.axis, self.share_rows(cut), *sizes[cut.axis + 1 :])


@dataclasses.dataclass(frozen=True)
class Holder:
    """A device of this process.

    Attributes:
        origin: where its shard begins in the leaf.
        share: which share of each chunk's rows it reads.
    """

    device: jax.Device
    origin: tuple[int, ...]
    share: int


def grid_of(leaf: LeafPlan) -> Grid:
    """Returns the grid of a leaf whose sharding is a `NamedSharding`, or of one device."""
    first, sharding = leaf.pieces[0], leaf.sharding
    mesh = auto_mesh(sharding.mesh) if isinstance(sharding, NamedSharding) else None
    names, local = axes_of(sharding, len(leaf.shape)), sharding.shard_shape(leaf.shape)
    return Grid(mesh, names, leaf.shape, local, len(first.index), first.permutation)


def axes_of(sharding: jax.sharding.Sharding, rank: int) -> tuple[Names, ...]:
    """Returns the mesh axes along which each axis of an array is divided; none without a mesh."""
    spec = sharding.spec if isinstance(sharding, NamedSharding) else ()
    found = [() if e is None else (e,) if isinstance(e, str) else tuple(e) for e in spec]
    return (*found, *((),) * (rank - len(found)))


def holders_of(leaf: LeafPlan, grid: Grid, cut: Cut) -> list[Holder]:
    """Returns this process's devices that hold the leaf."""
    where = {} if grid.mesh is None else _coordinates(grid.mesh)
    holders = []
    for device, index in leaf.sharding.addressable_devices_indices_map(leaf.shape).items():
        share = 0
        for name in cut.shares:
            share = share * grid.count((name,)) + where[device][name]
        origin = tuple(start for start, _ in of_index(index, leaf.shape))
        holders.append(Holder(device, origin, share))
    return holders


def part_of_chunk(
    grid: Grid,
    cut: Cut,
    pieces: dict[tuple[int, ...], Piece],
    holder: Holder,
    start: tuple[int, ...],
) -> tuple[Piece, Bounds] | None:
    """Returns what a device reads of a chunk that begins at `start` of its shard; None if its share
    is nothing but padding."""
    place = tuple(o + s for o, s in zip(holder.origin, start, strict=True))
    sizes = grid.stored(grid.shape if cut.shares else grid.local)
    begins = grid.stored(place)
    bounds = [(begin, begin + 1) for begin in begins[: cut.axis]]
    rows = grid.share_rows(cut)
    first = min(holder.share * rows, cut.step)
    last = min(first + rows, cut.step)
    if first == last:
        return None
    bounds.append((begins[cut.axis] + first, begins[cut.axis] + last))
    for begin, size in zip(begins[cut.axis + 1 :], sizes[cut.axis + 1 :], strict=True):
        bounds.append((0, size) if cut.shares else (begin, begin + size))
    return pieces[place[: grid.lead]], tuple(bounds)


@functools.lru_cache(64)
def auto_mesh(mesh: Mesh) -> Mesh:
    """Returns the mesh with all axes of the type Auto: what arrays of either type are made on."""
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


@functools.lru_cache(64)
def busiest(mesh: Mesh | None) -> int:
    """Counts the devices of the process that has most of them; one without a mesh."""
    if mesh is None:
        return 1
    return max(Counter(device.process_index for device in mesh.devices.flat).values())


@functools.lru_cache(64)
def _coordinates(mesh: Mesh) -> dict[jax.Device, dict[str, int]]:
    return {
        device: dict(zip(mesh.axis_names, at, strict=True))
        for at, device in np.ndenumerate(mesh.devices)
    }
