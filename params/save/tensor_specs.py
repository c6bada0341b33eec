"""Tensor specs: the tensors that a checkpoint will hold, and the shard that each goes into."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import CheckpointError, first_of, some, warn
from ..multihost import is_spread
from ..quantized.qtensor import QTensor
from ..tree.leaf_places import Place, constants, flax_name, places
from ..tree.naming import FLAX, TF, TORCH, Naming
from ..tree.paths import flatten, natural
from ..types import Concrete, Leaf, PyTree
from .leaf_pieces import LeafPiece, Saved, array_of, by_tensor, read_tensor
from .packed_layouts import OURS, layout_pieces
from .packed_pieces import array_pieces


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One tensor of a checkpoint to be written, and what it is made of: a leaf, a layer of a
    stacked leaf, or the leaves that the checkpoint has as one, in their order."""

    pieces: tuple[LeafPiece, ...]

    @property
    def name(self) -> str:
        return self.pieces[0].place.name

    @property
    def dtype(self) -> np.dtype:
        return self.pieces[0].leaf.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pieces[0].place.shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_spread(self) -> bool:
        """Whether other processes take part in reading it."""
        return any(is_spread(piece.leaf) for piece in self.pieces)

    def read(self) -> np.ndarray:
        """Returns the tensor in host memory, as `read_tensor`."""
        return read_tensor(self.pieces)

    def whole(self) -> Concrete:
        """Returns the leaf where it is, on its devices; read, if it is still in a file."""
        return array_of(self.pieces[0].leaf)


def tensor_specs(
    params: PyTree,
    template: PyTree,
    naming: Naming,
    layout: str,
    *,
    partial: bool = False,
    quant_method: str = OURS,
) -> list[TensorSpec]:
    """Returns what of `params` goes under which name, in the order of names.

    Args:
        template: tree of abstract leaves that `params` must agree with, in structure and shapes.
        partial: leaves may be missing from `params`.
        quant_method: the layout of quantised weights.

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
        if (shape := tuple(leaf.shape)) != tuple(wanted[path].shape):
            raise CheckpointError(
                f"{path} has shape {shape}, the model's is {wanted[path].shape}; nothing was "
                f"written{first_of(shape, wanted[path].shape)}"
            )
        if _is_floating(wanted[path]) and not _is_floating(leaf):
            raise CheckpointError(
                f"{path}: the model computes with floating-point numbers there, and no load would "
                f"take dtype {leaf.dtype}; nothing was written"
            )
    where = places(flatten(template), naming, layout, apart=False)
    pieces = [LeafPiece(p, leaf, place) for p, leaf in leaves.items() for place in where[p]]
    if layout == TORCH:
        pieces += _copies(leaves, wanted, naming)
    if layout == FLAX:
        pieces = _shared(pieces, leaves, naming)
    pieces += [
        LeafPiece(name, value, Place.as_held(name, value.shape))
        for name, constant in constants(wanted, naming, layout).items()
        for value in (np.asarray(constant.value()),)
    ]
    packed = [piece for piece in pieces if isinstance(piece.leaf, QTensor)]
    pieces = [piece for piece in pieces if not isinstance(piece.leaf, QTensor)]
    if quant_method == OURS:
        separator = "." if layout in (TORCH, TF) else "/"
        pieces += [array for piece in packed for array in array_pieces(piece, separator)]
    else:
        pieces += layout_pieces(packed, quant_method)
    named = by_tensor(pieces).items()
    specs = [TensorSpec(_checked(name, group, where)) for name, group in named]
    return sorted(specs, key=lambda spec: natural(spec.name))


def _is_floating(leaf: Saved | Leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _copies(
    leaves: Mapping[str, Saved], template: Mapping[str, Leaf], naming: Naming
) -> Iterator[LeafPiece]:
    """Yields what PyTorch expects under a second name."""
    for path, copy in naming.copies:
        if path in leaves and copy not in leaves:
            (place,) = places({copy: template[path]}, naming, TORCH)[copy]
            yield LeafPiece(path, leaves[path], place)


def _shared(
    pieces: list[LeafPiece], leaves: Mapping[str, Saved], naming: Naming
) -> list[LeafPiece]:
    """Puts equal leaves that old Flax has as one under its name, once. Warns of leaves that differ:
    they keep their own names, which old Flax does not look for."""
    for path, several in naming.flax_shared:
        if any(each not in leaves for each in several):
            continue
        first, *others = several
        if not all(_same(leaves[first], leaves[each]) for each in others):
            warn(
                f"{' and '.join(several)} differ, and Transformers' old Flax classes have one "
                f"table, {path}, for both: they cannot open these params, and flaxmodels can"
            )
            continue
        name = flax_name(path, naming)
        pieces = [
            LeafPiece(piece.path, piece.leaf, dataclasses.replace(piece.place, name=name))
            if piece.path == first
            else piece
            for piece in pieces
            if piece.path not in others
        ]
    return pieces


def _same(one: Saved, other: Saved) -> bool:
    """Tells whether two leaves hold the same numbers; all processes that hold parts call it."""
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if isinstance(one, QTensor) or isinstance(other, QTensor):
        arrays = zip(*map(jax.tree.leaves, (one, other)), strict=True)
        alike = jax.tree.structure(one) == jax.tree.structure(other)
        return alike and all(_same(a, b) for a, b in arrays)
    a, b = map(array_of, (one, other))
    if isinstance(a, jax.Array) and isinstance(b, jax.Array):
        return bool(jnp.array_equal(a, jax.device_put(b, a.sharding)))
    return np.array_equal(np.asarray(a), np.asarray(b))


def _checked(
    name: str, pieces: list[LeafPiece], where: Mapping[str, tuple[Place, ...]]
) -> tuple[LeafPiece, ...]:
    """Returns the pieces of a tensor in their order; raises unless they are all of it."""
    parts = [piece.place.part for piece in pieces if piece.place.part is not None]
    if len({*parts}) < len(pieces) and len(pieces) > 1:
        raise CheckpointError(f"two leaves have the name {name}; nothing was written")
    if not parts:
        return tuple(pieces)
    axis, run = parts[0].axis, sum(part.stop - part.start for part in parts)
    if parts[0].groups * run < pieces[0].place.shape[axis]:
        paths = [piece.path for piece in pieces]
        owners = (path for path, group in where.items() if any(x.name == name for x in group))
        raise CheckpointError(
            f"{name} is joined of {some(paths)}, which are there, and of "
            f"{some(path for path in owners if path not in paths)}, which are not among what is to "
            'be written; select them too, or none, or save with format="orbax", which keeps leaves '
            "apart; nothing was written"
        )
    if len({piece.leaf.dtype for piece in pieces}) > 1:
        found = ", ".join(f"{piece.path} {piece.leaf.dtype}" for piece in pieces)
        raise CheckpointError(
            f"{name} is joined of leaves of different dtypes: {found}; cast them to one; nothing "
            "was written"
        )
    return tuple(pieces)


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
