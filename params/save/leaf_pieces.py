"""Pieces of leaves: what a tensor to be written has of one, and how it is read off its devices."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..host.copies import copy
from ..multihost import gather, is_spread, join
from ..tree.measure import HOST_KINDS
from ..tree.places import Place
from ..types import Leaf


@dataclasses.dataclass(frozen=True)
class LeafPiece:
    """A leaf, or one layer of a stacked one, and the tensor that it makes, alone or with others."""

    path: str
    leaf: Leaf
    place: Place

    def read(self) -> np.ndarray:
        """Returns the piece in host memory, in the checkpoint's layout: a view of the leaf where
        that is in host memory already, else transposed by the device.

        Every process of a run that holds a part of the leaf must call it, all in one order.
        """
        leaf = _on_host(self.leaf)
        piece = _indexed(leaf, self.place.index) if self.place.index else _whole(leaf)
        inverse = tuple(int(axis) for axis in np.argsort(self.place.permutation))
        if isinstance(piece, np.ndarray) or inverse == tuple(range(len(inverse))):
            return np.asarray(jax.device_get(piece)).transpose(inverse)
        return np.asarray(jax.device_get(jnp.transpose(piece, inverse)), order="C")

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


def _on_host(leaf: Leaf) -> Any:
    """Returns the leaf's own memory as a NumPy array, if the host can see it."""
    if not isinstance(leaf, jax.Array) or not leaf.is_fully_addressable or len(leaf.devices()) > 1:
        return leaf
    (device,) = leaf.devices()
    seen = device.platform == "cpu" or leaf.sharding.memory_kind in HOST_KINDS
    return np.asarray(leaf) if seen else leaf


def _whole(leaf: Any) -> Any:
    return leaf.read() if hasattr(leaf, "read") else gather(leaf)  # "read": still in a file


def _indexed(leaf: Any, index: tuple[int, ...]) -> Any:
    """Returns `leaf[index]`. Layers spread over devices are put together on the host: what the
    partitioner makes of the lookup is a sum, and loses the sign of a zero."""
    lead = len(index)
    if hasattr(leaf, "read"):
        return leaf.read()[index]
    if isinstance(leaf, np.ndarray):
        return leaf[index]
    if leaf.sharding.shard_shape(leaf.shape)[:lead] == leaf.shape[:lead]:
        return gather(leaf[index])
    piece = np.zeros(leaf.shape[lead:], leaf.dtype)
    for shard in leaf.addressable_shards:
        starts = [part.start or 0 for part in shard.index[:lead]]
        inside = tuple(i - start for i, start in zip(index, starts, strict=True))
        held = all(0 <= i < size for i, size in zip(inside, shard.data.shape, strict=False))
        if shard.replica_id == 0 and held:
            piece[shard.index[lead:]] = np.asarray(shard.data[inside])
    return join(piece) if is_spread(leaf) else piece
