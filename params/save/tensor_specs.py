"""Tensor specs: the tensors that a checkpoint will hold, how each is read off its devices, and the
shard that it goes into."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import CheckpointError
from ..multihost import gather, is_spread, join
from ..tree.naming import TORCH, Naming
from ..tree.paths import flatten, natural
from ..tree.places import Place, places
from ..types import PyTree


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One tensor of a checkpoint to be written: a leaf, or one layer of a stacked leaf."""

    leaf: Any
    place: Place

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def dtype(self) -> Any:
        return self.leaf.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.place.shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """Returns the tensor in host memory, in the checkpoint's layout: a view of the leaf where
        that is in host memory already, else transposed by the device.

        Every process of a run that holds a part of the leaf must call it, all in one order.
        """
        leaf = _on_host(self.leaf)
        piece = _piece(leaf, self.place.index) if self.place.index else _whole(leaf)
        inverse = tuple(int(axis) for axis in np.argsort(self.place.permutation))
        if isinstance(piece, np.ndarray) or inverse == tuple(range(len(inverse))):
            return np.asarray(jax.device_get(piece)).transpose(inverse)
        return np.asarray(jax.device_get(jnp.transpose(piece, inverse)), order="C")

    def whole(self) -> Any:
        """Returns the leaf where it is, on its devices; read, if it is still in a file."""
        return self.leaf.read() if hasattr(self.leaf, "read") else self.leaf


def _on_host(leaf: Any) -> Any:
    """Returns the leaf's own memory as a NumPy array, if the host can see it."""
    if not isinstance(leaf, jax.Array) or not leaf.is_fully_addressable or len(leaf.devices()) > 1:
        return leaf
    (device,) = leaf.devices()
    return np.asarray(leaf) if device.platform == "cpu" else leaf


def _whole(leaf: Any) -> Any:
    return leaf.read() if hasattr(leaf, "read") else gather(leaf)  # "read": still in a file


def _piece(leaf: Any, index: tuple[int, ...]) -> Any:
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


def tensor_specs(
    params: PyTree, template: PyTree, naming: Naming, layout: str, *, partial: bool = False
) -> list[TensorSpec]:
    """Returns what of `params` goes under which name, in the order of names.

    Args:
        template: tree of abstract leaves that `params` must agree with, in structure and shapes.
        partial: leaves may be missing from `params`.

    Raises:
        CheckpointError: a leaf that is missing, too much, of another shape, or that has the name
            of another; with its path.
    """
    leaves, wanted = flatten(params), flatten(template)
    if partial:
        wanted = {path: leaf for path, leaf in wanted.items() if path in leaves}
    if odd := sorted(leaves.keys() ^ wanted.keys()):
        problem = "is not in the params" if odd[0] in wanted else "is no leaf of the model"
        raise CheckpointError(f"{odd[0]} {problem} ({len(odd)} such leaves); nothing was written")
    for path, leaf in leaves.items():
        if tuple(leaf.shape) != tuple(wanted[path].shape):
            raise CheckpointError(
                f"{path} has shape {tuple(leaf.shape)}, the model's is {wanted[path].shape}; "
                "nothing was written"
            )
    where = places(wanted, naming, layout, apart=False)
    specs = [TensorSpec(leaf, place) for path, leaf in leaves.items() for place in where[path]]
    for path, copy in naming.copies:
        if layout == TORCH and path in leaves and copy not in leaves:
            (place,) = places({copy: wanted[path]}, naming, layout)[copy]
            specs.append(TensorSpec(leaves[path], place))
    names = [spec.name for spec in specs]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise CheckpointError(f"two leaves have the name {twice[0]}; nothing was written")
    return sorted(specs, key=lambda spec: natural(spec.name))


def plan_shards(specs: Iterable[TensorSpec], limit: int) -> list[list[TensorSpec]]:
    """Cuts specs, in their order, into shards of at most `limit` bytes; a larger tensor alone."""
    shards: list[list[TensorSpec]] = [[]]
    size = 0
    for spec in specs:
        if shards[-1] and size + spec.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(spec)
        size += spec.nbytes
    return shards
