"""Leaves that stay packed: their arrays as leaves of a plan, and put together again."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ..errors import CheckpointError, quoted
from ..formats.source import ArrayTensor, Tensor
from ..quantized.codes import codes_of
from ..quantized.packed import FIELDS, PackedTensor, decoded_as
from ..quantized.qtensor import Form, QTensor
from ..tree.paths import unflatten
from ..types import Params, PyTree
from .leaf_plan import LeafPlan
from .match import Piece


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
    return True in kinds and all(map(_has_rows_last, pieces))


def _has_rows_last(piece: Piece) -> bool:
    return piece.permutation[:-2] == (*range(len(piece.permutation) - 2),)


def decoded(plan: LeafPlan) -> LeafPlan:
    """Returns the plan of a leaf whose quantised numbers are read in its own dtype."""
    tensors = [decoded_as(piece.tensor, plan.dtype) for piece in plan.pieces]
    if all(new is piece.tensor for new, piece in zip(tensors, plan.pieces, strict=True)):
        return plan
    pieces = tuple(
        dataclasses.replace(piece, tensor=new)
        for new, piece in zip(tensors, plan.pieces, strict=True)
    )
    return dataclasses.replace(plan, pieces=pieces, stored=plan.dtype)


def packed_leaf(plan: LeafPlan, where: str) -> PackedLeaf:
    """Returns the arrays of a leaf that `is_kept_packed`; `plan` is that of its numbers.

    Raises:
        CheckpointError: layers of one leaf that are not quantised alike; `where` names the source.
    """
    tensors = _alike([_packed(piece) for piece in plan.pieces], plan, where)
    first, piece = tensors[0], plan.pieces[0]
    rank = len(piece.permutation)
    turned = first.form.turned ^ (piece.permutation[-2:] == (rank - 1, rank - 2))
    form = dataclasses.replace(first.form, dtype=plan.dtype, turned=turned)
    placer = _Placer(plan)
    entries = placer.entries
    if turned:
        entries = (*entries[:-2], entries[-1], entries[-2])
    lead = len(piece.index)
    arrays = []
    for name, fields, spec in placer.fields("", tensors, entries):
        shape = (*plan.shape[:lead], *fields[0].shape)
        identity = tuple(range(len(fields[0].shape)))
        pieces = tuple(
            Piece(field, identity, piece.index)
            for field, piece in zip(fields, plan.pieces, strict=True)
        )
        dtype = jax.dtypes.canonicalize_dtype(fields[0].dtype)
        sharding = placer.sharding(spec)
        arrays.append(
            LeafPlan(
                f"{plan.path}/{name}",
                shape,
                fields[0].dtype,
                dtype,
                sharding,
                pieces,
                plan.committed,
            )
        )
    return PackedLeaf(plan.path, form, tuple(arrays), tuple(placer.notes))


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
    leaves |= {path: _value(unflatten(arrays[path]), form) for path, form in packed.items()}
    return unflatten({path: leaves[path] for path in sorted(leaves)})


def owner_of(path: str, packed: Mapping[str, Form]) -> str | None:
    """Returns the path of the packed weight that the array at `path` is of; None if of none."""
    while path:
        path = path.rpartition("/")[0]
        if path in packed:
            return path
    return None


def _value(arrays: Params, form: Form) -> QTensor:
    inner = {"scale": form.scale, "offset": form.offset}
    fields: Params = {
        name: array if (of := inner.get(name)) is None else _value(array, of)
        for name, array in arrays.items()
    }
    return QTensor(**fields, form=form)


def _packed(piece: Piece) -> PackedTensor:
    assert isinstance(piece.tensor, PackedTensor)
    return piece.tensor


def _alike(tensors: list[PackedTensor], plan: LeafPlan, where: str) -> list[PackedTensor]:
    """Returns the tensors of one leaf, all with the same fields, in the order of their rows or all
    with an order; raises if they are of several schemes."""
    if any("perm" in tensor.fields for tensor in tensors):
        tensors = [tensor if "perm" in tensor.fields else _in_order(tensor) for tensor in tensors]
    kinds = [_kind(tensor) for tensor in tensors]
    usual = max(kinds, key=kinds.count)
    odd = [tensor for tensor, kind in zip(tensors, kinds, strict=True) if kind != usual]
    if odd:
        (other,) = [t for t, kind in zip(tensors, kinds, strict=True) if kind == usual][:1]
        raise mixed(plan.path, odd[0], other, where)
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


Entry: TypeAlias = str | tuple[str, ...] | None
Entries: TypeAlias = tuple[Entry, ...]
"""Mesh axes of each dimension, as in a PartitionSpec."""


class _Placer:
    """Decides where the arrays of one leaf are: as its numbers, where no block is cut.

    Attributes:
        entries: mesh axes of each dimension of the leaf.
        notes: what could not be split.
    """

    def __init__(self, plan: LeafPlan):
        self.plan = plan
        self.lead = len(plan.pieces[0].index)
        self.notes: list[str] = []
        sharding = plan.sharding
        spec = tuple(sharding.spec) if isinstance(sharding, NamedSharding) else ()
        self.entries = (*spec, *(None,) * (len(plan.shape) - len(spec)))

    def fields(
        self, name: str, tensors: Sequence[PackedTensor], entries: Entries
    ) -> Iterator[tuple[str, list[Tensor], Entries]]:
        """Yields (name, tensor of each piece, mesh axes) of each array.

        Args:
            name: of the array that the tensors are: "scale/", and "" for the leaf itself.
            entries: mesh axes of the numbers, as they are stored.
        """
        form, stored = tensors[0].form, tensors[0].stored
        group = codes_of(form.codes).group
        for key in [key for key in FIELDS if key in tensors[0].fields]:
            fields = [tensor.fields[key] for tensor in tensors]
            if key == "perm":
                spec = (*entries[:-2], None)
            else:
                units = (1, group) if key == "data" else form.block
                spec = self._split(f"{name}{key}", entries, stored, units)
            inner = [field for field in fields if isinstance(field, PackedTensor)]
            if inner:
                yield from self.fields(f"{name}{key}/", inner, spec)
            else:
                yield f"{name}{key}", fields, spec

    def _split(
        self, name: str, entries: Entries, stored: tuple[int, ...], units: tuple[int, int]
    ) -> Entries:
        """Returns the mesh axes of an array that has one element for `units` numbers."""
        spec = [*entries]
        for axis in (-2, -1):
            size, unit, parts = stored[axis], units[axis], self._parts(entries[axis])
            if unit < 0 or parts == 1:
                spec[axis] = None
            elif size % parts or size // parts % unit:
                spec[axis] = None
                self.notes.append(
                    f"{self.plan.path}/{name} is whole on each device: {size} numbers in blocks of "
                    f"{unit} over {entries[axis]} of size {parts}"
                )
        return tuple(spec)

    def _parts(self, entry: Entry) -> int:
        sharding = self.plan.sharding
        if not isinstance(sharding, NamedSharding):
            return 1
        names = () if entry is None else (entry,) if isinstance(entry, str) else entry
        return int(np.prod([sharding.mesh.shape[name] for name in names], dtype=int))

    def sharding(self, spec: Entries) -> jax.sharding.Sharding:
        """Returns the sharding of an array of these mesh axes."""
        sharding = self.plan.sharding
        if not isinstance(sharding, NamedSharding):
            return sharding
        while spec and spec[-1] is None:
            spec = spec[:-1]
        return NamedSharding(sharding.mesh, PartitionSpec(*spec), memory_kind=sharding.memory_kind)
