"""Leaves that stay packed: their arrays as leaves of a plan, and put together again."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import NamedSharding

from ..errors import CheckpointError, quoted
from ..formats.source import ArrayTensor, Tensor
from ..quantized.codes import codes_of
from ..quantized.packed import FIELDS, PackedTensor, decoded_as
from ..quantized.qtensor import Form, QTensor
from ..tree.paths import nearest_above, unflatten
from ..types import PyTree
from .device.grid import Names, axes_of
from .device.programs import spec_of
from .leaf_plan import LeafPlan
from .match import Piece

Axes = tuple[Names, ...]
"""Mesh axes along which each dimension is divided."""


@dataclasses.dataclass(frozen=True)
class PackedLeaf:
    """A leaf that stays packed.

    Attributes:
        form: of the leaf.
        arrays: the plans of its arrays, whose paths are `kernel/data`, `kernel/scale`, ...
        notes: what is whole on each device because its blocks do not divide.
    """

    path: str
    form: Form
    arrays: tuple[LeafPlan, ...]
    notes: tuple[str, ...]


def is_kept_packed(path: str, pieces: tuple[Piece, ...], where: str) -> bool:
    """Tells whether a leaf can be held as its tensors are: all of them packed, rows and columns
    last.

    Raises:
        CheckpointError: some are packed and some are not.
    """
    kinds = {isinstance(piece.tensor, PackedTensor): piece.tensor for piece in pieces}
    if len(kinds) > 1:
        raise mixed(path, kinds[False], kinds[True], where)
    fronts = (piece.permutation[:-2] for piece in pieces)
    return True in kinds and all(front == (*range(len(front)),) for front in fronts)


def decoded(plan: LeafPlan) -> LeafPlan:
    """Returns the plan of a leaf whose quantised numbers are read in its own dtype."""
    pieces = tuple(
        dataclasses.replace(piece, tensor=decoded_as(piece.tensor, plan.dtype))
        for piece in plan.pieces
    )
    is_plain = all(new.tensor is old.tensor for new, old in zip(pieces, plan.pieces, strict=True))
    return plan if is_plain else dataclasses.replace(plan, pieces=pieces, stored=plan.dtype)


def packed_leaf(plan: LeafPlan, where: str) -> PackedLeaf:
    """Returns the arrays of a leaf that `is_kept_packed`; `plan` is that of its numbers.

    Raises:
        CheckpointError: layers of one leaf that are not quantised alike; `where` names the source.
    """
    packed = [x.tensor for x in plan.pieces if isinstance(x.tensor, PackedTensor)]  # all of them
    tensors = _alike(packed, plan, where)
    first, piece = tensors[0], plan.pieces[0]
    rank, lead = len(piece.permutation), len(piece.index)
    turned = first.form.turned ^ (piece.permutation[-2:] == (rank - 1, rank - 2))
    form = dataclasses.replace(first.form, dtype=plan.dtype, turned=turned)
    axes = axes_of(plan.sharding, len(plan.shape))
    if turned:
        axes = (*axes[:-2], axes[-1], axes[-2])
    arrays, notes = [], list[str]()
    for name, fields, spec in _fields(plan, "", tensors, axes, notes):
        array = dataclasses.replace(
            plan,
            path=f"{plan.path}/{name}",
            shape=(*plan.shape[:lead], *fields[0].shape),
            stored=fields[0].dtype,
            dtype=jax.dtypes.canonicalize_dtype(fields[0].dtype),
            sharding=_placed(plan.sharding, spec),
            pieces=tuple(
                Piece.whole(field, piece.index)
                for field, piece in zip(fields, plan.pieces, strict=True)
            ),
        )
        arrays.append(array)
    return PackedLeaf(plan.path, form, tuple(arrays), tuple(notes))


def put_together(flat: Mapping[str, object], packed: Mapping[str, Form]) -> PyTree:
    """Returns the tree of `{path: leaf}`, of which those at the paths of `packed` are packed
    weights, whose arrays have paths below theirs."""
    arrays: dict[str, dict[str, object]] = {path: {} for path in packed}
    leaves: dict[str, object] = {}
    for path, leaf in flat.items():
        if (owner := owner_of(path, packed)) is None:
            leaves[path] = leaf
        else:
            arrays[owner][path[len(owner) + 1 :]] = leaf
    leaves |= {path: QTensor.of(unflatten(arrays[path]), form) for path, form in packed.items()}
    return unflatten({path: leaves[path] for path in sorted(leaves)})


def owner_of(path: str, packed: Mapping[str, Form]) -> str | None:
    """Returns the path of the packed weight that the array at `path` is of; None if of none."""
    return nearest_above(path.rpartition("/")[0], packed)


def _alike(tensors: list[PackedTensor], plan: LeafPlan, where: str) -> list[PackedTensor]:
    """Returns the tensors of one leaf, all with the same fields, in the order of their rows or all
    with an order; raises if they are of several schemes."""
    if any("perm" in tensor.fields for tensor in tensors):
        tensors = [tensor if "perm" in tensor.fields else _in_order(tensor) for tensor in tensors]
    kinds = [_kind(tensor) for tensor in tensors]
    usual = max(kinds, key=kinds.count)
    if odd := [tensor for tensor, kind in zip(tensors, kinds, strict=True) if kind != usual]:
        raise mixed(plan.path, odd[0], tensors[kinds.index(usual)], where)
    return tensors


def mixed(path: str, odd: Tensor, other: Tensor, where: str) -> CheckpointError:
    """Makes the error for layers of one leaf that are held differently."""
    return CheckpointError(
        f"{where}: the layers of {path} are quantised differently: {quoted(odd.name)} is "
        f"{_said(odd)}, {quoted(other.name)} {_said(other)}; load with scan_layers=False, or "
        "dequantize=True"
    )


def _said(tensor: Tensor) -> str:
    if not isinstance(tensor, PackedTensor):
        return f"not quantised ({tensor.dtype})"
    has = [name for name in FIELDS[2:] if name in tensor.fields]
    return f"{tensor.form.codes} in blocks of {tensor.form.block}" + "".join(f", {x}" for x in has)


def _kind(tensor: PackedTensor) -> object:
    fields = {
        name: _kind(field) if isinstance(field, PackedTensor) else (field.shape, field.dtype)
        for name, field in tensor.fields.items()
    }
    return fields, dataclasses.replace(tensor.form, dtype=np.dtype(np.float32))


def _in_order(tensor: PackedTensor) -> PackedTensor:
    lead, size = tensor.stored[:-2], tensor.stored[-1]
    order = np.broadcast_to(np.arange(size, dtype=np.int32), (*lead, size))
    perm = ArrayTensor(tensor.name, order.shape, order.dtype, array=order)
    return dataclasses.replace(tensor, fields={**tensor.fields, "perm": perm})


def _fields(
    plan: LeafPlan,
    name: str,
    tensors: Sequence[PackedTensor],
    axes: Axes,
    notes: list[str],
) -> Iterator[tuple[str, list[Tensor], Axes]]:
    """Yields (name, tensor of each piece, mesh axes) of each array: it is where its numbers are, as
    far as that cuts no block.

    Args:
        name: of the array that the tensors are: "scale/", and "" for the leaf itself.
        axes: mesh axes of the numbers, as they are stored.
        notes: get what could not be split.
    """
    form, stored = tensors[0].form, tensors[0].stored
    for key in [key for key in FIELDS if key in tensors[0].fields]:
        fields = [tensor.fields[key] for tensor in tensors]
        units = (1, codes_of(form.codes).group) if key == "data" else form.block
        spec = (*axes[:-2], ())
        if key != "perm":
            spec = _split(plan, f"{name}{key}", axes, stored, units, notes)
        if inner := [field for field in fields if isinstance(field, PackedTensor)]:
            yield from _fields(plan, f"{name}{key}/", inner, spec, notes)
        else:
            yield f"{name}{key}", fields, spec


def _split(
    plan: LeafPlan,
    name: str,
    axes: Axes,
    stored: tuple[int, ...],
    units: tuple[int, int],
    notes: list[str],
) -> Axes:
    """Returns the mesh axes of an array that has one element for `units` numbers."""
    spec = [*axes]
    for axis in (-2, -1):
        size, unit, parts = stored[axis], units[axis], _parts(plan.sharding, axes[axis])
        if unit < 0 or parts == 1:
            spec[axis] = ()
        elif size % parts or size // parts % unit:
            spec[axis] = ()
            notes.append(
                f"{plan.path}/{name} is whole on each device: {size} numbers in blocks of "
                f"{unit} over {' x '.join(axes[axis])} of size {parts}"
            )
    return tuple(spec)


def _parts(sharding: jax.sharding.Sharding, names: Names) -> int:
    """Counts the parts that mesh axes cut a dimension into."""
    if not isinstance(sharding, NamedSharding):
        return 1
    return math.prod(sharding.mesh.shape[name] for name in names)


def _placed(sharding: jax.sharding.Sharding, spec: Axes) -> jax.sharding.Sharding:
    """Returns the sharding of an array of these mesh axes."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    while spec and not spec[-1]:
        spec = spec[:-1]
    return NamedSharding(sharding.mesh, spec_of(spec), memory_kind=sharding.memory_kind)
