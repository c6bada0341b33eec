"""Pieces of leaves: what a tensor to be written has of one, and how it is read off its devices."""

import dataclasses
import functools
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np

from ..formats.bounds import chunks, holds, moved, of_index, shape_of
from ..host.copies import copy, empty
from ..host.threads import unwatched
from ..multihost import gather, is_spread, join
from ..tree.leaf_places import Place
from ..tree.measure import HOST_KINDS
from ..types import Concrete

CHUNK = 8 << 20
"""Bytes that are read off a device, and sent to another process, at once."""


@runtime_checkable
class Unread(Protocol):
    """A leaf that is still in a file, or is computed when it is read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def read(self) -> np.ndarray: ...


Saved: TypeAlias = Concrete | Unread
"""A leaf that can be saved."""


@dataclasses.dataclass(frozen=True)
class LeafPiece:
    """A leaf, or one layer of a stacked one, and the tensor that it makes, alone or with others."""

    path: str
    leaf: Saved
    place: Place

    @unwatched()
    def read(self) -> np.ndarray:
        """Returns the piece in host memory, in the checkpoint's layout: a view of the leaf where
        that is in host memory already, else read off its devices, which transpose it.

        Every process of a run that holds a part of the leaf must call it, all in one order.
        """
        leaf, inverse = _on_host(self.leaf), turned(self.place)
        if isinstance(leaf, jax.Array) and not is_spread(leaf):
            return _off_devices(leaf, self.place)
        piece = _indexed(leaf, self.place.index) if self.place.index else gather(leaf)
        return np.asarray(jax.device_get(piece)).transpose(inverse)

    def read_into(self, tensor: np.ndarray) -> None:
        """Copies the piece to where it belongs in the tensor, whose other parts are other leaves'.
        All processes call it, as `read`."""
        part = self.place.part
        assert part is not None
        before, after = tensor.shape[: part.axis], tensor.shape[part.axis + 1 :]
        run = tensor.shape[part.axis] // part.groups
        runs = tensor.reshape(*before, part.groups, run, *after)
        target = runs[(slice(None),) * (part.axis + 1) + (slice(part.start, part.stop),)]
        copy(self.read().reshape(target.shape), target)


def read_tensor(pieces: Sequence[LeafPiece]) -> np.ndarray:
    """Returns the tensor that pieces make, in host memory and the checkpoint's layout: a view of
    its leaf where it has one, which is in host memory already.

    Every process of a run that holds a part of a leaf must call it, all in one order.
    """
    place, leaf = pieces[0].place, pieces[0].leaf
    if place.part is None:
        return pieces[0].read()
    tensor = empty(place.shape, leaf.dtype)
    for piece in pieces:
        piece.read_into(tensor)
    return tensor


def by_tensor(pieces: Iterable[LeafPiece]) -> dict[str, list[LeafPiece]]:
    """Groups pieces by the names of the tensors that they make."""
    named: dict[str, list[LeafPiece]] = {}
    for piece in pieces:
        named.setdefault(piece.place.name, []).append(piece)
    return named


def turned(place: Place) -> tuple[int, ...]:
    """Returns the permutation that makes the tensor's axes of the leaf's."""
    return tuple(int(axis) for axis in np.argsort(place.permutation))


def _off_devices(leaf: jax.Array, place: Place) -> np.ndarray:
    """Reads a piece shard by shard. A device transposes a chunk at a time, and holds two of them
    beside the params: one that is read, one that is made meanwhile."""
    lead, inverse = len(place.index), turned(place)
    tensor = empty(tuple(leaf.shape[lead + axis] for axis in inverse), leaf.dtype)
    coming = deque[tuple[tuple[slice, ...], jax.Array]]()
    for shard in leaf.addressable_shards:
        bounds = of_index(shard.index, leaf.shape)
        if shard.replica_id or not holds(bounds, place.index):
            continue
        box = tuple(bounds[lead + axis] for axis in inverse)
        inside = [i - first for i, (first, _) in zip(place.index, bounds, strict=False)]
        if is_in_host_memory(shard.data):
            held = np.asarray(shard.data)[tuple(inside)]
            copy(held.transpose(inverse), tensor[tuple(slice(*cut) for cut in box)])
            continue
        for part in chunks(shape_of(box), max(1, CHUNK // leaf.dtype.itemsize)):
            starts = [*inside, *(part[axis][0] for axis in place.permutation)]
            sizes = (*(1,) * lead, *(part[axis][1] - part[axis][0] for axis in place.permutation))
            made = cut_out(shard.data, starts, sizes, lead, inverse)
            made.copy_to_host_async()
            coming.append((tuple(slice(*cut) for cut in moved(part, box)), made))
            if len(coming) == 2:
                there, done = coming.popleft()
                tensor[there] = np.asarray(done)
    for there, done in coming:
        tensor[there] = np.asarray(done)
    return tensor


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def cut_out(
    data: jax.Array, start: list[int], sizes: tuple[int, ...], lead: int, turned: tuple[int, ...]
) -> jax.Array:
    """Cuts a box out and turns it, on the device; one program for all boxes of a size."""
    part = jax.lax.dynamic_slice(data, start, sizes)
    return part.reshape(sizes[lead:]).transpose(turned)


def is_in_host_memory(data: jax.Array) -> bool:
    """Tells whether NumPy can see an array where it is."""
    is_kept = data.sharding.memory_kind in HOST_KINDS
    return is_kept or all(device.platform == "cpu" for device in data.devices())


def array_of(leaf: Saved) -> Concrete:
    """Returns a leaf where it is; read, if it is still in a file."""
    return leaf.read() if isinstance(leaf, Unread) else leaf


def _on_host(leaf: Saved) -> Concrete:
    """Returns the leaf's own memory as a NumPy array, if the host can see it."""
    array = array_of(leaf)
    if isinstance(array, np.ndarray) or is_spread(array) or len(array.devices()) > 1:
        return array
    return np.asarray(array) if is_in_host_memory(array) else array


def _indexed(leaf: Concrete, index: tuple[int, ...]) -> Concrete:
    """Returns `leaf[index]`. Layers spread over processes are put together on the host: what the
    partitioner makes of the lookup is a sum, and loses the sign of a zero."""
    lead = len(index)
    if isinstance(leaf, np.ndarray):
        return leaf[index]
    if leaf.sharding.shard_shape(leaf.shape)[:lead] == leaf.shape[:lead]:
        return gather(leaf[index])
    piece = np.zeros(leaf.shape[lead:], leaf.dtype)
    for shard in leaf.addressable_shards:
        bounds = of_index(shard.index, leaf.shape)
        if shard.replica_id == 0 and holds(bounds, index):
            inside = tuple(i - start for i, (start, _) in zip(index, bounds, strict=False))
            piece[shard.index[lead:]] = np.asarray(shard.data[inside])
    return join(piece)
