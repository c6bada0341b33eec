"""Tensors whose rows stand in another order, transposed ones, and sums: computed while they are
read, and packed as long as what they are made of is."""

import dataclasses

import numpy as np

from ..formats.source import Bounds, Tensor
from .lazy_tensors import Computed
from .packed import PackedTensor

_APART = 4  # times as many rows as are wanted may be read at once


def rows_of(tensor: Tensor, order: np.ndarray) -> Tensor:
    """Returns a tensor whose row i is row `order[i]` of another, of which no block holds more than
    one row."""
    if isinstance(tensor, PackedTensor):
        assert tensor.form.block[-2] == 1 and not tensor.form.turned
        fields = {name: rows_of(field, order) for name, field in tensor.fields.items()}
        shape = (len(order), *tensor.shape[1:])
        return dataclasses.replace(tensor, shape=shape, fields=fields, whole=tensor)

    def made(bounds: Bounds) -> np.ndarray:
        rows, inner = order[slice(*bounds[0])], bounds[1:]
        out = np.empty((len(rows), *(b - a for a, b in inner)), tensor.dtype)
        _fill_rows(tensor, out, rows, inner)
        return out

    return Computed.of([tensor], (len(order), *tensor.shape[1:]), tensor.dtype, made)


def _fill_rows(tensor: Tensor, out: np.ndarray, rows: np.ndarray, inner: Bounds) -> None:
    """Fills `out` with rows of a tensor: those that lie close together are read at once."""
    first, last = int(rows.min()), int(rows.max()) + 1
    if last - first <= _APART * len(rows):
        out[...] = tensor.read(((first, last), *inner))[rows - first]
        return
    half = len(rows) // 2
    _fill_rows(tensor, out[:half], rows[:half], inner)
    _fill_rows(tensor, out[half:], rows[half:], inner)


def transposed(tensor: Tensor) -> Tensor:
    """Returns the transpose of a matrix."""
    shape = tensor.shape[::-1]
    if isinstance(tensor, PackedTensor):
        form = dataclasses.replace(tensor.form, turned=not tensor.form.turned)
        return dataclasses.replace(tensor, shape=shape, form=form, whole=tensor)

    def made(bounds: Bounds) -> np.ndarray:
        return tensor.read(bounds[::-1]).T

    return Computed.of([tensor], shape, tensor.dtype, made)


def plus(tensor: Tensor, number: float) -> Tensor:
    """Returns a tensor with a number added, computed and held in float32."""

    def made(bounds: Bounds) -> np.ndarray:
        return tensor.read(bounds).astype(np.float32) + np.float32(number)

    return Computed.of([tensor], tensor.shape, np.dtype(np.float32), made)
