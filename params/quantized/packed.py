"""Packed tensors: quantised weights of a checkpoint, read decoded, or field by field."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import quoted
from ..formats.files import Span
from ..formats.joined_tensors import part_of
from ..formats.source import Bounds, LayerTensor, Tensor
from ..host.copies import copy
from ..tree.leaf_places import Part
from .codes import codes_of
from .lazy_tensors import Checked, Scales, check_order, misfit, taken
from .qtensor import FIELDS, Form, QTensor, misfits, swapped

_PIECE = 1 << 18  # numbers that are decoded at once: their temporaries stay in the cache
_REMOTE_PIECE = 1 << 22  # the same of files at an address, where each read is a request


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedTensor(Tensor):
    """A quantised weight of a checkpoint, which `packed_tensor` makes.

    `shape` and `dtype` are those of the array that it stands for, its axes as the checkpoint has
    them: (out, in) of a linear layer of PyTorch. What reads it as it reads other tensors gets the
    numbers. A plan that keeps weights packed reads the fields.

    Attributes:
        fields: "data", "scale", and of "zero", "offset" and "perm" those that there are: lazily,
            the arrays of a `QTensor` of this `form`.
    """

    fields: Mapping[str, Tensor]
    form: Form

    @property
    def nbytes(self) -> int:
        """Bytes of its fields."""
        return sum(field.nbytes for field in self.fields.values())

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of its numbers as they are stored, unpacked."""
        return swapped(self.shape) if self.form.turned else self.shape

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        if self.form.turned:
            out, bounds = out.swapaxes(-1, -2), swapped(bounds)
        for index in itertools.product(*(range(*bound) for bound in bounds[:-2])):
            at = tuple((i, i + 1) for i in index)
            first = tuple(i - start for i, (start, _) in zip(index, bounds, strict=False))
            for rows in self._pieces(bounds[-2], bounds[-1]):
                numbers = self.numbers((*at, rows, bounds[-1]))
                here = slice(rows[0] - bounds[-2][0], rows[1] - bounds[-2][0])
                copy(numbers.reshape(numbers.shape[-2:]), out[(*first, here)])

    def numbers(self, bounds: Bounds) -> np.ndarray:
        """Returns the numbers between `bounds`, of the axes as they are stored, in float32. All of
        them are in memory at once, and those that lie in the same blocks."""
        around = [*bounds]
        for axis in (-2, -1):
            unit, size = self._unit(axis), self.stored[axis]
            start, stop = bounds[axis]
            around[axis] = (start // unit * unit, min(size, -(-stop // unit) * unit))
        if "perm" in self.fields:
            around[-1] = (0, self.stored[-1])
        fields: dict[str, Any] = {name: self._read(name, around) for name in self.fields}
        form = dataclasses.replace(
            self.form, dtype=np.dtype(np.float32), turned=False, scale=None, offset=None
        )
        with np.errstate(over="ignore"):  # a scale of 2**127, as some formats have it
            numbers = QTensor(**fields, form=form).dense()
        inner = (slice(b - a, e - a) for (a, _), (b, e) in zip(around, bounds, strict=True))
        return numbers[tuple(inner)]

    def astype(self, dtype: np.dtype) -> "PackedTensor":
        """Returns the same tensor, whose numbers are rounded to another dtype."""
        form = dataclasses.replace(self.form, dtype=np.dtype(dtype))
        return dataclasses.replace(self, dtype=form.dtype, form=form)

    def layer(self, index: int, name: str) -> "PackedTensor":
        """Returns the tensor at an index of the first axis, which is no axis of its blocks."""
        fields = {key: layer_of(field, index, name) for key, field in self.fields.items()}
        return self._with(fields, self.form, self.shape[1:], name)

    def share(self, part: Part) -> "PackedTensor | None":
        """Returns a part of the tensor, scales of blocks that it cuts repeated for each number;
        None where it is not packed in whole bytes, or in another order."""
        form, fields = self.form, {**self.fields}
        at = part.axis - len(self.shape)
        at = -3 - at if form.turned and at >= -2 else at  # of the axes as they are stored
        part = dataclasses.replace(part, axis=at % len(self.shape))
        run = self.stored[at] // part.groups
        codes, cuts = codes_of(form.codes), (run, part.start, part.stop)
        data = part
        if at == -1:
            if "perm" in fields or any(cut % codes.group for cut in cuts):
                return None
            data = Part(part.axis, part.groups, *map(codes.packed, cuts[1:]))
        fields["data"] = share_of(fields["data"], data)
        block = 1 if at < -2 else form.block[at]
        others = [name for name in fields if name != "data" and not (name == "perm" and at == -2)]
        if block > 0 and not any(cut % block for cut in cuts):
            blocks = Part(part.axis, part.groups, part.start // block, part.stop // block)
            fields |= {name: share_of(fields[name], blocks) for name in others}
        elif block > 0:
            numbers = np.arange(self.stored[at]).reshape(part.groups, run)
            numbers = numbers[:, part.start : part.stop].ravel() // block
            fields |= {name: taken(fields[name], part.axis, numbers) for name in others}
            blocks = (1, form.block[1]) if at == -2 else (form.block[0], 1)
            form = dataclasses.replace(form, block=blocks)
        stored = [*self.stored]
        stored[at] = part.groups * (part.stop - part.start)
        shape = swapped(tuple(stored)) if form.turned else tuple(stored)
        return self._with(fields, form, shape, self.name)

    def _with(
        self, fields: Mapping[str, Tensor], form: Form, shape: tuple[int, ...], name: str
    ) -> "PackedTensor":
        form, spans = _nested(form, fields), _spans(fields)
        return dataclasses.replace(
            self, name=name, shape=shape, spans=spans, fields=fields, form=form, whole=self
        )

    def _unit(self, axis: int) -> int:
        """Returns a number of rows or columns such that multiples of it cut no byte or block."""
        block = max(self.form.block[axis], 1)
        return math.lcm(block, codes_of(self.form.codes).group) if axis == -1 else block

    def _pieces(self, rows: tuple[int, int], columns: tuple[int, int]) -> Iterator[tuple[int, int]]:
        """Yields rows to decode at once: whole blocks of them, as far as `rows` has them."""
        unit = self._unit(-2)
        is_kept = all(span.file.is_kept for span in self.spans)
        most = (_PIECE if is_kept else _REMOTE_PIECE) // max(columns[1] - columns[0], 1)
        step = max(unit, most // unit * unit)
        starts = range(rows[0] // step * step, rows[1], step)
        return ((max(start, rows[0]), min(start + step, rows[1])) for start in starts)

    def _read(self, name: str, around: list[tuple[int, int]]) -> np.ndarray:
        """Reads what a field has of the numbers `around`, which cut no byte or block."""
        field, bounds = self.fields[name], [*around]
        if name == "data":
            codes = codes_of(self.form.codes)
            bounds[-1] = (codes.packed(around[-1][0]), codes.packed(around[-1][1]))
        elif name == "perm":
            bounds = [*around[:-2], around[-1]]
        else:
            bounds = self.form.blocks_of(tuple(around))
        if isinstance(field, PackedTensor):
            return field.numbers(tuple(bounds))
        return field.read(tuple(bounds))


def packed_tensor(
    name: str, fields: Mapping[str, Tensor | None], form: Form, *, scales: Scales = Scales.FINITE
) -> PackedTensor:
    """Makes a packed tensor of its fields; reads nothing.

    Args:
        name: of the weight, such as "model.layers.0.mlp.up_proj.weight".
        fields: of `FIELDS`, in the shapes that a `QTensor` of this `form` has them in; None for
            one that there is not. Scales and offsets may be packed tensors, whose forms need not
            be in `form`.
        form: its `dtype` is that of the numbers.
        scales: which numbers scales may be; they are checked when they are read.

    Raises:
        CheckpointError: fields whose shapes or dtypes do not fit each other; with file and tensor.
    """
    given = {key: field for key in FIELDS if (field := fields.get(key)) is not None}
    for key, problem in misfits(form, given, quoted(name)):
        raise misfit(given[key], problem)
    if "perm" in given:
        given["perm"] = Checked.of(given["perm"], check_order)
    for key, kind in (("scale", scales), ("offset", Scales.FINITE)):
        if key in given and not isinstance(given[key], PackedTensor):
            given[key] = Checked.of(given[key], kind.check)
    form, shape = _nested(form, given), form.logical(given["data"].shape)
    return PackedTensor(name, shape, np.dtype(form.dtype), _spans(given), fields=given, form=form)


def _nested(form: Form, fields: Mapping[str, Tensor]) -> Form:
    """Returns the form with those of scales and offsets that are quantised themselves."""
    scale, offset = (
        field.form if isinstance(field := fields.get(name), PackedTensor) else None
        for name in ("scale", "offset")
    )
    return dataclasses.replace(form, scale=scale, offset=offset)


def _spans(fields: Mapping[str, Tensor]) -> tuple[Span, ...]:
    return tuple(span for field in fields.values() for span in field.spans)


def share_of(tensor: Tensor, part: Part) -> Tensor:
    """Returns a part of a tensor; of a packed one a packed one where it can be, else its numbers
    alone."""
    share = tensor.share(part) if isinstance(tensor, PackedTensor) else None
    return part_of(tensor, part) if share is None else share


def layer_of(tensor: Tensor, index: int, name: str) -> Tensor:
    """Returns a tensor at an index of its first axis, under a name of its own."""
    if isinstance(tensor, PackedTensor):
        return tensor.layer(index, name)
    return LayerTensor(name, tensor.shape[1:], tensor.dtype, whole=tensor, index=index)


def decoded_as(tensor: Tensor, dtype: np.dtype) -> Tensor:
    """Returns a tensor whose quantised numbers are read in another dtype, into which they are cast
    from float32 at once; one that has none is returned as it is."""
    if isinstance(tensor, PackedTensor):
        return tensor.astype(dtype)
    if tensor.whole is None or (whole := decoded_as(tensor.whole, dtype)) is tensor.whole:
        return tensor
    return dataclasses.replace(tensor, dtype=dtype, whole=whole)
