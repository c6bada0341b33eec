"""Steps: what a load on devices does, one launch of a program after the other, in one order on all
processes."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np

from ...formats.source import Bounds, Tensor
from ...host.copies import CACHE_LINE
from ..leaf_plan import LeafPlan
from .grid import grid_of, holders_of, part_of_chunk
from .programs import Packed, Place, Unpack, Update, place_of, update_of
from .routes import RING, SLABS, Limits

Read = tuple[Tensor, Bounds, int]
"""A part of a tensor, and the number of the element of a `Part` at which it belongs."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What is read once, and sent to one device or to several that hold the same.

    Attributes:
        capacity: of a `Cut`; where it is not 0 there is one device.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    reads: tuple[Read, ...]
    devices: tuple[jax.Device, ...]
    capacity: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def padded(nbytes: int) -> int:
    """Rounds bytes up to whole lines of the cache: what is next in a slot then begins where a CPU
    device wants it."""
    return -(-nbytes // CACHE_LINE) * CACHE_LINE


@dataclasses.dataclass(frozen=True)
class Step:
    """One launch.

    Attributes:
        paths: of the leaves that it writes.
        start: where in its shard each device writes; of an `Update`.
    """

    program: Update | Unpack
    paths: tuple[str, ...]
    parts: tuple[Part, ...]
    start: tuple[int, ...] = ()

    @property
    def place(self) -> Place:
        return self.program.place


Pack = list[LeafPlan]
"""Small leaves of one dtype on the same devices."""


def packs_of(leaves: Iterable[LeafPlan], most: int) -> list[Pack]:
    """Packs those that are to be packed, in their order, at most so many bytes in each."""
    groups: dict[tuple[Place, np.dtype], list[Pack]] = {}
    for leaf in leaves:
        if leaf.route.kind != "packed":
            continue
        packs = groups.setdefault((place_of(leaf), leaf.stored), [[]])
        if _nbytes([*packs[-1], leaf]) > most and packs[-1]:
            packs.append([])
        packs[-1].append(leaf)
    return [pack for packs in groups.values() for pack in packs]


def _nbytes(pack: Pack) -> int:
    return sum(math.prod(leaf.shape) * leaf.stored.itemsize for leaf in pack)


def steps_of(leaves: Sequence[LeafPlan], limits: Limits) -> Iterator[Step]:
    """Yields the steps of a load: packs first, then leaf by leaf."""
    for pack in packs_of(leaves, limits.slab):
        yield _unpacking(pack)
    for leaf in leaves:
        if leaf.route.cut is not None:
            yield from _chunks(leaf)


def programs_of(leaves: Sequence[LeafPlan], limits: Limits) -> list[Update | Unpack]:
    """Lists the programs of a load, each once."""
    packs = [_unpacking(pack).program for pack in packs_of(leaves, limits.slab)]
    updates = [update_of(leaf, grid_of(leaf)) for leaf in leaves if leaf.route.cut is not None]
    return list(dict.fromkeys([*packs, *updates]))


def ring_bytes(leaves: Sequence[LeafPlan], limits: Limits) -> int:
    """Counts the host memory that a load on devices reads into."""
    cuts = [(leaf, leaf.route.cut) for leaf in leaves if leaf.route.cut is not None]
    pinned = {
        (device, cut.capacity)
        for leaf, cut in cuts
        for device in leaf.sharding.addressable_devices
        if cut.capacity
    }
    return RING * (slot_bytes(leaves, limits) + sum(capacity for _, capacity in pinned))


def slot_bytes(leaves: Sequence[LeafPlan], limits: Limits) -> int:
    """Counts the bytes of a slot: of the largest step of this process that is not pinned."""
    sizes = [padded(_nbytes(pack)) for pack in packs_of(leaves, limits.slab)]
    for leaf in leaves:
        if (cut := leaf.route.cut) is not None and not cut.capacity:
            part = math.prod(grid_of(leaf).chunk(cut)) * leaf.stored.itemsize
            sizes.append(padded(part) * len(leaf.sharding.addressable_devices))
    return max(sizes, default=0)


def transient_bytes(leaves: Sequence[LeafPlan], limits: Limits) -> int:
    """Counts the memory that a load needs on each device beside the params."""
    sizes = [_nbytes(pack) for pack in packs_of(leaves, limits.slab)]
    sizes += [leaf.route.cut.slab for leaf in leaves if leaf.route.cut is not None]
    return SLABS * max(sizes, default=0)


def _unpacking(pack: Pack) -> Step:
    first, leaves, reads = 0, list[Packed](), list[Read]()
    for leaf in pack:
        leaves.append(Packed(grid_of(leaf), leaf.dtype, first, leaf.pieces[0].tensor.shape))
        for piece in leaf.pieces:
            shape = piece.tensor.shape
            reads.append((piece.tensor, tuple((0, size) for size in shape), first))
            first += math.prod(shape)
    place, stored = place_of(pack[0]), pack[0].stored
    part = Part((first,), stored, tuple(reads), place.devices)
    program = Unpack(place, stored, first, tuple(leaves))
    return Step(program, tuple(leaf.path for leaf in pack), (part,))


def _chunks(leaf: LeafPlan) -> Iterator[Step]:
    """Yields the steps that make a leaf."""
    cut, grid = leaf.route.cut, grid_of(leaf)
    assert cut is not None
    program = update_of(leaf, grid)
    pieces = {piece.index: piece for piece in leaf.pieces}
    holders = holders_of(leaf, grid, cut)
    for start in grid.starts(cut):
        parts: dict[object, Part] = {}
        for holder in holders:
            found = part_of_chunk(grid, cut, pieces, holder, start)
            reads = () if found is None else ((found[0].tensor, found[1], 0),)
            key = holder if cut.capacity else found and (found[0].index, found[1])
            devices = (*(parts[key].devices if key in parts else ()), holder.device)
            parts[key] = Part(program.chunk, leaf.stored, reads, devices, cut.capacity)
        yield Step(program, (leaf.path,), tuple(parts.values()), start)
