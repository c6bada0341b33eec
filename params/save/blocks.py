"""Blocks: what each process of a run writes of a tensor whose leaves are spread over them."""

import dataclasses
import itertools
from collections.abc import Iterator

import jax
import numpy as np

from ..formats.bounds import chunks, holds, moved, of_index, relative, shape_of
from ..formats.source import Bounds
from ..host.copies import contiguous
from ..host.threads import unwatched
from ..multihost import is_spread
from ..types import Concrete
from .leaf_pieces import CHUNK, LeafPiece, Saved, array_of, cut_out, is_in_host_memory, turned
from .tensor_specs import TensorSpec


@dataclasses.dataclass(frozen=True)
class Block:
    """A box of a tensor that one process writes.

    Attributes:
        bounds: in the tensor, in the checkpoint's layout.
        shard: the part of the leaf that it lies in.
        start: where the block begins in the leaf, but for the axes that number layers.
        owner: the process.
    """

    piece: LeafPiece
    bounds: Bounds
    shard: Bounds
    start: tuple[int, ...]
    owner: int

    def chunks(self) -> Iterator[Bounds]:
        """Yields the boxes, in the tensor, that are read one after the other; each is of at most
        `CHUNK` bytes."""
        most = max(1, CHUNK // self.piece.leaf.dtype.itemsize)
        for box in chunks(shape_of(self.bounds), most):
            yield moved(box, self.bounds)

    def read(self) -> Iterator[tuple[Bounds, np.ndarray]]:
        """Yields (box in the tensor, its numbers in C order), as `chunks`; on the owner."""
        place, data = self.piece.place, _held(self.piece.leaf, self.shard)
        for box in self.chunks():
            inner = tuple(
                (at + box[axis][0] - self.bounds[axis][0], at + box[axis][1] - self.bounds[axis][0])
                for at, axis in zip(self.start, place.permutation, strict=True)
            )
            lead = tuple((i, i + 1) for i in place.index)
            here = relative((*lead, *inner), self.shard)
            inverse = turned(place)
            if isinstance(data, np.ndarray):
                part = data[here].reshape(shape_of(inner)).transpose(inverse)
            else:
                starts = [cut.start for cut in here]
                sizes = tuple(cut.stop - cut.start for cut in here)
                with unwatched():
                    part = np.asarray(cut_out(data, starts, sizes, len(lead), inverse), order="C")
            yield box, contiguous(part)


def blocks(spec: TensorSpec, main: int) -> Iterator[Block]:
    """Yields the blocks that a tensor is made of, in one order on all processes.

    Each shard of a leaf is written by the processes that hold it, in equal parts: a leaf that all
    hold is not left to the first.

    Args:
        main: the process that writes leaves which every process has to itself.
    """
    for piece in spec.pieces:
        for shard, holders in _holders(piece.leaf, main):
            for bounds, start in _boxes(piece, shard):
                yield from _shared(Block(piece, bounds, shard, start, 0), holders)


def _holders(leaf: Saved, main: int) -> list[tuple[Bounds, list[int]]]:
    """Returns the shards of a leaf, and the processes that hold each."""
    shape = tuple(leaf.shape)
    if not is_spread(leaf):
        return [(of_index(None, shape), [main])]
    found: dict[Bounds, set[int]] = {}
    for device, index in leaf.sharding.devices_indices_map(shape).items():
        found.setdefault(of_index(index, shape), set()).add(_process_of(device))
    return [(bounds, sorted(found[bounds])) for bounds in sorted(found)]


def _process_of(device: jax.Device) -> int:  # a test has eight devices stand for four processes
    return device.process_index


def _boxes(piece: LeafPiece, shard: Bounds) -> Iterator[tuple[Bounds, tuple[int, ...]]]:
    """Yields (box in the tensor, where it begins in the leaf) of what a shard holds of a piece:
    several, where the leaf's columns are runs of a joined tensor's."""
    place, lead = piece.place, len(piece.place.index)
    inner = shard[lead:]
    if not holds(shard, place.index) or any(first == last for first, last in inner):
        return
    bounds: list[tuple[int, int]] = [(0, 0)] * len(inner)
    for cut, axis in zip(inner, place.permutation, strict=True):
        bounds[axis] = cut
    start = tuple(first for first, _ in inner)
    part = place.part
    if part is None:
        yield tuple(bounds), start
        return
    width, run = part.stop - part.start, place.shape[part.axis] // part.groups
    own = place.permutation.index(part.axis)
    first, last = bounds[part.axis]
    for group in range(first // width, (last - 1) // width + 1):
        at, end = max(first, group * width), min(last, (group + 1) * width)
        shift = group * run + part.start - group * width
        bounds[part.axis] = (at + shift, end + shift)
        yield tuple(bounds), (*start[:own], at, *start[own + 1 :])


def _shared(block: Block, holders: list[int]) -> Iterator[Block]:
    """Yields a block in as many parts as processes hold it, cut along the first axis."""
    if not block.bounds:
        yield dataclasses.replace(block, owner=holders[0])
        return
    (first, last), *rest = block.bounds
    own = block.piece.place.permutation.index(0)
    cuts = [first + (last - first) * i // len(holders) for i in range(len(holders) + 1)]
    for owner, (at, end) in zip(holders, itertools.pairwise(cuts), strict=True):
        if at < end:
            start = list(block.start)
            start[own] += at - first
            yield dataclasses.replace(
                block, bounds=((at, end), *rest), start=tuple(start), owner=owner
            )


def runs(shape: tuple[int, ...], box: Bounds) -> tuple[np.ndarray, int]:
    """Returns (where the runs of a box begin in an array of this shape, how long each is), in
    elements and in C order."""
    rank = len(shape)
    last = rank - 1
    while last > 0 and box[last] == (0, shape[last]):
        last -= 1
    pitch = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(rank)]
    starts = np.zeros(1, np.int64)
    for axis in range(max(last, 0)):
        starts = (starts[:, None] + np.arange(*box[axis], dtype=np.int64) * pitch[axis]).reshape(-1)
    if not rank:
        return starts, 1
    return starts + box[last][0] * pitch[last], (box[last][1] - box[last][0]) * pitch[last]


def _held(leaf: Saved, shard: Bounds) -> Concrete:
    """Returns this process's own data of a shard: NumPy's where that is in host memory."""
    if not is_spread(leaf):
        return np.asarray(jax.device_get(array_of(leaf)))
    shape = tuple(leaf.shape)
    data = next(x.data for x in leaf.addressable_shards if of_index(x.index, shape) == shard)
    return np.asarray(data) if is_in_host_memory(data) else data
