"""Fused tensors: the share that a leaf has of a tensor that holds several, as q of q, k and v."""

import dataclasses
import itertools
import math

import numpy as np

from ..host.copies import as_integers
from ..tree.leaf_places import Part
from .source import Bounds, Tensor

_BLOCK = 4 << 20  # bytes read at once with what lies between short runs


def part_of(tensor: Tensor, part: Part) -> Tensor:
    """Returns a part of a tensor as a tensor, which reads nothing but its own rows; of columns in
    several runs, what lies between them too."""
    rows = tensor.shape[part.axis] // part.groups, part.stop - part.start
    shape = list(tensor.shape)
    shape[part.axis] = part.groups * rows[1]
    if part.axis or type(tensor) is not Tensor:
        return Columns(
            tensor.name, tuple(shape), tensor.dtype, tensor.spans, whole=tensor, part=part
        )
    row = math.prod(shape[1:]) * tensor.dtype.itemsize
    runs = range(part.start * row, tensor.nbytes, max(1, rows[0] * row))
    spans = tuple(span for start in runs for span in tensor.bytes_from(start, rows[1] * row))
    return Tensor(tensor.name, tuple(shape), tensor.dtype, spans, whole=tensor)


@dataclasses.dataclass(frozen=True)
class Columns(Tensor):
    """A part of a tensor that does not lie in rows of its own.

    Attributes:
        part: of `whole`.
    """

    part: Part = Part(0, 1, 0, 0)

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        whole = self.whole
        assert whole is not None
        axis, width = self.part.axis, self.part.stop - self.part.start
        run = whole.shape[axis] // self.part.groups
        numbers = np.arange(*bounds[axis])
        there = numbers // width * run + self.part.start + numbers % width
        if axis == 0:
            begins = [0, *np.flatnonzero(np.diff(there) > 1) + 1, len(there)]
            for begin, end in itertools.pairwise(begins):
                rows = (int(there[begin]), int(there[end - 1]) + 1)
                whole.fill(out[begin:end], (rows, *bounds[1:]))
            return
        around = (int(there[0]), int(there[-1]) + 1)
        inner = (*bounds[1:axis], around, *bounds[axis + 1 :])
        if around[1] - around[0] == len(there):
            whole.fill(out, (bounds[0], *inner))
            return
        start, stop = bounds[0]
        row = math.prod(high - low for low, high in inner) * self.dtype.itemsize
        step = max(1, _BLOCK // row)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            block = as_integers(whole.read(((first, last), *inner)))
            as_integers(out[first - start : last - start])[...] = block.take(
                there - around[0], axis
            )
