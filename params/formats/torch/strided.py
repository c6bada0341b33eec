"""Strided tensors: views of a storage that are not in C order, read block by block."""

import dataclasses

import numpy as np

from ..source import Bounds, Tensor

_BLOCK = 2 << 20  # bytes read at once
_GAP = 16 << 10  # bytes that take longer to skip, by another call, than to read


@dataclasses.dataclass(frozen=True)
class Strided(Tensor):
    """A tensor whose one span reaches from its first element to its last.

    Attributes:
        strides: from one element to the next along each dimension, in elements; 0 repeats one.
    """

    strides: tuple[int, ...] = ()

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        first = sum(start * step for (start, _), step in zip(bounds, self.strides, strict=True))
        # As plain bits: `as_strided` fails on dtypes that NumPy does not know, such as float8.
        self._gather(out.view(f"u{self.dtype.itemsize}"), first)

    def _gather(self, out: np.ndarray, first: int) -> None:
        """Fills `out` with the view that starts at element `first`, in halves along the largest
        stride until one read of little else serves it."""
        sizes = zip(self.strides, out.shape, strict=True)
        along = [(step, axis) for axis, (step, size) in enumerate(sizes) if size > 1]
        step, axis = max(along, default=(0, 0))
        extent = 1 + sum((out.shape[axis] - 1) * step for step, axis in along)
        gap = step - (extent - (out.shape[axis] - 1) * step)
        itemsize = self.dtype.itemsize
        if extent * itemsize <= _BLOCK and gap * itemsize <= _GAP:
            block = np.empty(extent, out.dtype)
            self._read_bytes(first * itemsize, block)
            strides = [step * itemsize for step in self.strides]
            out[...] = np.lib.stride_tricks.as_strided(block, out.shape, strides, writeable=False)
        else:
            half = out.shape[axis] // 2
            near, far = np.split(out, [half], axis)
            self._gather(near, first)
            self._gather(far, first + half * step)
