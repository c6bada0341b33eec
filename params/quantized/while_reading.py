"""Weights that are quantised while they are read: the fields of a packed tensor, of one of numbers.

Of the numbers no more than a piece is ever in memory.
"""

import dataclasses
import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from ..formats.bounds import shape_of
from ..formats.source import Bounds, Tensor
from ..host.copies import Scratch, copy
from ..host.kernels import compiles, on_cpu
from .codes import codes_of, pack
from .lazy_tensors import Computed, misfit
from .make import encode, quantize
from .nested_scales import nested, run_of
from .packed import PackedTensor, packed_tensor
from .qtensor import Form, swapped

_PIECE = 1 << 19  # numbers that are quantised at once
_WORTH = 1 << 17  # numbers; for fewer of them nothing is compiled
_MEMORY = Scratch()


def quantized(tensor: Tensor, form: Form) -> PackedTensor:
    """Returns the packed tensor that quantising makes of a tensor of numbers; reads nothing.

    Args:
        tensor: its last two axes are those of the weight.
        form: what to make. If it is `turned`, codes run along the last axis but one. If it has one
            for the scales, these are quantised after the codes have been found: "dynamic8" as
            `nested` does it, and where it cannot in 8-bit integers of as large blocks of a row.

    Raises:
        CheckpointError: rows that do not fill whole bytes.
    """
    inner, form = form.scale, dataclasses.replace(form, scale=None)
    source = _Source(tensor, form)
    codes = codes_of(form.codes)
    if source.stored[-1] % codes.group:
        raise misfit(
            tensor,
            f"has rows of {source.stored[-1]} numbers, which are no whole bytes of {codes.bits} "
            "bits each; leave it out of what is quantised",
        )
    shape = form.packed(source.stored)
    data = _Codes(tensor.name, shape, codes.stored, tensor.spans, whole=tensor, source=source)
    shape, dtype = form.blocks(source.stored), np.dtype(np.float32)
    scale = Computed.of([tensor], shape, dtype, source.scales, is_beside=True)
    packed = scale if inner is None else _twice(scale, inner)
    return packed_tensor(tensor.name, {"data": data, "scale": packed}, form)


def _twice(scale: Tensor, form: Form) -> PackedTensor:
    """Returns scales that are quantised."""
    if form.codes != "dynamic8":
        return quantized(scale, form)
    if run_of(scale.shape):
        return nested(scale)
    return quantized(scale, dataclasses.replace(form, codes="int8"))


class _Source:
    """The numbers of a tensor, its axes as codes are stored, and what is known of their scales.

    Codes and scales are two tensors, one read after the other, and made of the same numbers: the
    scales that are found with codes are kept until they have been read.
    """

    def __init__(self, tensor: Tensor, form: Form):
        self.tensor = tensor
        self.form = form
        self.stored = swapped(tensor.shape) if form.turned else tensor.shape
        self._lock = threading.Lock()
        self._known: np.ndarray | None = None  # NaN where it is not known yet
        self._given = 0
        self._largest: np.ndarray | None = None

    def pieces(self, bounds: Bounds) -> Iterator[tuple[Bounds, Bounds]]:
        """Cuts what is around `bounds` and cuts no block -> (a piece, what of it is asked for)."""
        sizes = zip(self.stored[-2:], self.form.block, strict=True)
        units = [max(1, min(block, size)) for size, block in sizes]
        columns = (
            bounds[-1][0] // units[1] * units[1],
            min(self.stored[-1], -(-bounds[-1][1] // units[1]) * units[1]),
        )
        if self.form.block[1] < 0 and self.form.block[0] > 0:
            columns = (0, self.stored[-1])
        step = max(units[0], _PIECE // max(1, columns[1] - columns[0]) // units[0] * units[0])
        for index in itertools.product(*(range(*bound) for bound in bounds[:-2])):
            lead = tuple((i, i + 1) for i in index)
            first = bounds[-2][0] // units[0] * units[0]
            for start in range(first, bounds[-2][1], step):
                stop = min(start + step, self.stored[-2])
                rows = (max(start, bounds[-2][0]), min(stop, bounds[-2][1]))
                yield (*lead, (start, stop), columns), (*lead, rows, bounds[-1])

    def made(self, piece: Bounds) -> tuple[np.ndarray, np.ndarray]:
        """Returns codes and scales of the numbers of a piece, and keeps the scales."""
        numbers = self._numbers(piece)
        codes, scale = _quantize(numbers.reshape(numbers.shape[-2:]), self.form, self._top(piece))
        if not np.isfinite(scale).all():
            raise misfit(
                self.tensor, "holds NaN or infinity, which cannot be quantised; leave it out"
            )
        with self._lock:
            if self._known is None:
                self._known = np.full(self.form.blocks(self.stored), np.nan, np.float32)
                self._given = 0
            self._known[tuple(slice(*x) for x in self.form.blocks_of(piece))] = scale.reshape(
                *(1,) * (len(piece) - 2), *scale.shape
            )
        return codes, scale

    def scales(self, bounds: Bounds) -> np.ndarray:
        """Returns the scales between `bounds`; numbers are read for those that are not known."""
        here = tuple(slice(*bound) for bound in bounds)
        found = None if self._known is None else self._known[here]
        if found is None or np.isnan(found).any():
            for piece, _ in self.pieces(self._around(bounds)):
                self.made(piece)
            assert self._known is not None
            found = self._known[here]
        with self._lock:
            self._given += found.size
            if self._known is not None and self._given >= self._known.size:
                self._known = None
        return found

    def _around(self, bounds: Bounds) -> Bounds:
        """Returns the numbers that scales are of."""
        inner = (
            (0, size) if block < 0 else (start * block, min(stop * block, size))
            for (start, stop), block, size in zip(
                bounds[-2:], self.form.block, self.stored[-2:], strict=True
            )
        )
        return (*bounds[:-2], *inner)

    def _numbers(self, bounds: Bounds) -> np.ndarray:
        count = math.prod(shape_of(bounds))
        memory = _MEMORY.bytes(count * self.tensor.dtype.itemsize, "read")
        if not self.form.turned:
            return self.tensor.read(bounds, memory)
        found = self.tensor.read(swapped(bounds), memory)
        turned = _MEMORY.array(swapped(found.shape), found.dtype, "turned")
        copy(found.swapaxes(-1, -2), turned)
        return turned

    def _top(self, piece: Bounds) -> np.ndarray | None:
        """Returns the largest magnitude of all numbers, where they have one scale: found by reading
        them once more than the others; None where a piece is enough."""
        if self.form.block[0] > 0:
            return None
        lead = tuple(start for start, _ in piece[:-2])
        with self._lock:
            if self._largest is None:
                self._largest = np.full(self.stored[:-2], np.nan, np.float32)
            if np.isnan(self._largest[lead]):
                largest = [0.0]
                every = (*piece[:-2], *((0, size) for size in self.stored[-2:]))
                for part, _ in self.pieces(every):
                    numbers = self._numbers(part).astype(np.float32)
                    largest.append(float(np.abs(numbers).max()))
                self._largest[lead] = max(largest, key=lambda x: (x != x, x))
            return self._largest[lead].reshape(1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Codes(Tensor):
    """The codes of a source. It takes the bytes in the checkpoint that the numbers take."""

    source: _Source = dataclasses.field(compare=False)

    @property
    def nbytes(self) -> int:
        return self.source.tensor.nbytes

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        codes = codes_of(self.source.form.codes)
        columns = (codes.unpacked(bounds[-1][0]), codes.unpacked(bounds[-1][1]))
        for piece, asked in self.source.pieces((*bounds[:-1], columns)):
            made, _ = self.source.made(piece)
            first = codes.packed(asked[-1][0] - piece[-1][0])
            rows = slice(asked[-2][0] - piece[-2][0], asked[-2][1] - piece[-2][0])
            lead = tuple(a - b for (a, _), (b, _) in zip(asked[:-2], bounds, strict=False))
            here = slice(asked[-2][0] - bounds[-2][0], asked[-2][1] - bounds[-2][0])
            part = made[rows, first : first + out.shape[-1]]
            out[(*lead, here)].view(np.uint8)[...] = part.view(np.uint8)


def _quantize(
    numbers: np.ndarray, form: Form, largest: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns codes and scales, by XLA where there are many: pieces have few shapes, and one loop
    compares a number with all of a codebook. NumPy casts and packs, several times faster."""
    if numbers.size < _WORTH or not compiles(numbers.dtype):
        made = quantize(numbers, form, largest)
        return np.asarray(made.data), np.asarray(made.scale)
    shape, blocks = numbers.shape, form.blocks(numbers.shape)
    codes, width, rows = codes_of(form.codes), form.block[1], len(numbers)
    is_whole = width > 0 and shape[1] % width == 0 and width % codes.group == 0
    if codes.kind == "codebook" and form.block[0] == 1 and is_whole:
        # Blocks as rows, for to repeat scales would take as long as all the rest, and as many of
        # them as few shapes have, for to compile takes longer than a piece.
        numbers, form = numbers.reshape(-1, width), dataclasses.replace(form, block=(1, -1))
        unit = max(1, _WORTH // width)
        rows = -(-len(numbers) // unit) * unit
    floats = _MEMORY.array((rows, numbers.shape[1]), np.dtype(np.float32), "floats")
    floats[: len(numbers)] = numbers
    floats[len(numbers) :] = 0
    with on_cpu():
        found, scale = map(np.asarray, _compiled(form)(floats, largest=largest))
    data = pack(found[: len(numbers)].reshape(shape), codes.bits, -1)
    return data, scale.reshape(-1)[: math.prod(blocks)].reshape(blocks)


@functools.lru_cache(maxsize=32)
def _compiled(form: Form) -> Callable[..., Any]:
    return jax.jit(functools.partial(encode, form=form))
