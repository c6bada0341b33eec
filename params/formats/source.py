"""Sources: an opened checkpoint, name -> lazy tensor; no weight is read until asked for."""

import dataclasses
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from ..errors import CheckpointError, quoted
from ..host.copies import RowsApart, empty_bytes
from ..types import Concrete
from .bounds import Bounds as Bounds
from .bounds import chunks, shape_of
from .files import File, Span

# Runs shorter than a page, from rows no longer than a call costs time to read, are read with all
# that lies between them.
_SHORT_RUN = 4096
_SHORT_ROW = 16 << 10
_BLOCK = 4 << 20  # bytes read at once of such rows


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that is read in parts. This one lies in files, C order and little endian; a format
    whose tensors lie otherwise has a class of its own that says how to `fill` an array.

    Attributes:
        spans: the bytes, in order; more than one where a format splits large arrays.
        whole: the tensor of the checkpoint that this one is a part of, if it is not one itself.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    spans: tuple[Span, ...] = ()
    whole: "Tensor | None" = dataclasses.field(default=None, kw_only=True)
    divides: ClassVar[bool] = True
    """Whether several threads that read a part each do what one does that reads all of it."""

    @property
    def nbytes(self) -> int:
        """Bytes in the checkpoint's dtype."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def position(self) -> tuple[str, int]:
        """Tensors read in this order are read from files front to back."""
        if self.spans:
            return self.spans[0].file.path, self.spans[0].offset
        return self.whole.position if self.whole else ("", 0)

    def read(self, bounds: Bounds | None = None, scratch: np.ndarray | None = None) -> np.ndarray:
        """Reads the tensor, or the part of it between `bounds`, in C order; only the bytes asked
        for are read, and what lies between short runs of them.

        Args:
            bounds: (start, stop) of each dimension.
            scratch: bytes to put the result in; else it gets (64-byte aligned) memory of its own.

        Raises:
            ValueError: bounds that are no part of the tensor, or scratch that does not hold it.
            CheckpointError: the disk's own error, or a file that is not what it was.
        """
        bounds = self._checked(bounds)
        shape = shape_of(bounds)
        count = math.prod(shape) * self.dtype.itemsize
        if scratch is None:
            scratch = empty_bytes(count)
        elif not _are_bytes(scratch) or len(scratch) < count:
            raise ValueError(
                f"tensor {quoted(self.name)}: scratch must be a NumPy array of at least {count} "
                "uint8 in one dimension, side by side and writable"
            )
        out = scratch[:count].view(self.dtype).reshape(shape)
        if out.size:
            self.fill(out, bounds)
        if self.dtype == np.bool_:  # any byte that is not 0 is True; XLA knows only 0 and 1
            np.not_equal(out.view(np.uint8), 0, out=out)
        return out

    def _checked(self, bounds: Bounds | None) -> Bounds:
        """Returns bounds as ints; of all of the tensor where they are None."""
        if bounds is None:
            return tuple((0, size) for size in self.shape)
        try:
            cuts = tuple((operator.index(start), operator.index(stop)) for start, stop in bounds)
            pairs = zip(cuts, self.shape, strict=True)
            is_inside = all(0 <= start <= stop <= size for (start, stop), size in pairs)
        except (TypeError, ValueError):
            is_inside, cuts = False, ()
        if not is_inside:
            raise ValueError(
                f"tensor {quoted(self.name)} has shape {self.shape}, and bounds {quoted(bounds)} "
                "are no part of it; give (start, stop) of each dimension"
            )
        return cuts

    def has_rows(self, bounds: Bounds) -> bool:
        """Tells whether the part between `bounds` is whole rows that lie in files one by one."""
        if type(self) is not Tensor or len(bounds) != 2 or self.dtype == np.bool_:
            return False
        row = self.shape[1] * self.dtype.itemsize
        is_cut = any(span.length % max(row, 1) for span in self.spans)
        return bounds[1] == (0, self.shape[1]) and not is_cut

    def read_rows(self, bounds: Bounds, rows: RowsApart) -> np.ndarray:
        """Reads a part that `has_rows` into the first of `rows`."""
        first, last = bounds[0]
        views = rows.views[: last - first]
        for span in self.bytes_from(first * rows.nbytes, len(views) * rows.nbytes):
            count = span.length // rows.nbytes
            span.file.read_rows(span.offset, views[:count])
            views = views[count:]
        return rows.array[: last - first].view(self.dtype)

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        """Fills `out`, which is in C order and not empty, with the part between `bounds`."""
        self._fill(out, bounds, 0)

    def _fill(self, out: np.ndarray, bounds: Bounds, offset: int) -> None:
        """Fills `out`, the cut `bounds` of the subarray at byte `offset`, run by run."""
        rank = out.ndim
        shape = self.shape[len(self.shape) - rank :]
        row = math.prod(shape[1:]) * self.dtype.itemsize
        whole = bounds[1:] == tuple((0, size) for size in shape[1:])
        if rank == 0:
            self._read_bytes(offset, out)
        elif whole:
            self._read_bytes(offset + bounds[0][0] * row, out)
        elif out[0].nbytes < _SHORT_RUN and row <= _SHORT_ROW:
            inner = tuple(slice(*bound) for bound in bounds[1:])
            start, stop = bounds[0]
            step = max(1, _BLOCK // row)
            for first in range(start, stop, step):
                rows = np.empty((min(step, stop - first), *shape[1:]), self.dtype)
                self._read_bytes(offset + first * row, rows)
                out[first - start :][: len(rows)] = rows[(slice(None), *inner)]
        else:
            for i, position in enumerate(range(*bounds[0])):
                self._fill(out[i], bounds[1:], offset + position * row)

    def _read_bytes(self, start: int, out: np.ndarray) -> None:
        """Fills contiguous `out` from byte `start` of the tensor, across spans."""
        view = out.reshape(-1).view(np.uint8).data
        for span in self.bytes_from(start, len(view)):
            span.file.read_into(span.offset, view[: span.length])
            view = view[span.length :]

    def bytes_from(self, start: int, count: int) -> Iterator[Span]:
        """Yields where `count` bytes from byte `start` of the tensor on lie."""
        for span in self.spans:
            here = min(count, span.length - start)
            if here > 0:
                yield Span(span.file, span.offset + start, here)
                count -= here
            start = max(0, start - span.length)


def _are_bytes(value: object) -> bool:
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 1:
        return False
    return value.flags.c_contiguous and value.flags.writeable


@dataclasses.dataclass(frozen=True)
class ArrayTensor(Tensor):
    """A tensor that is an array in memory."""

    array: Concrete = dataclasses.field(kw_only=True)

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        out[...] = np.asarray(self.array[tuple(slice(*bound) for bound in bounds)])


@dataclasses.dataclass(frozen=True)
class LayerTensor(Tensor):
    """`whole[index]` of another tensor."""

    index: int = 0

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        assert self.whole is not None
        self.whole.fill(out[None], ((self.index, self.index + 1), *bounds))


def are_equal(one: Tensor, two: Tensor) -> bool:
    """Tells whether two tensors are the same byte for byte; a block of each is read at a time."""
    if (one.shape, one.dtype) != (two.shape, two.dtype):
        return False
    if one.spans and one.spans == two.spans and type(one) is type(two) is Tensor:
        return True
    boxes = chunks(one.shape, _BLOCK // one.dtype.itemsize)
    return all(one.read(box).tobytes() == two.read(box).tobytes() for box in boxes)


def tensor_at(
    file: File, name: str, shape: Sequence[int], dtype: np.dtype, offset: int, nbytes: int
) -> Tensor:
    """Returns the tensor that a header says is the `nbytes` bytes of a file from `offset` on.

    Raises:
        CheckpointError: a shape that takes another number of bytes, or bytes that are not there.
    """
    location = f"{file.path}: tensor {quoted(name)}"
    if too_large(shape, dtype):
        raise CheckpointError(f"{location}: shape {quoted(shape)} is too large")
    if (expected := math.prod(shape) * dtype.itemsize) != nbytes:
        raise CheckpointError(
            f"{location}: {dtype} of shape {tuple(shape)} takes {expected} bytes, the file gives "
            f"it {nbytes}"
        )
    if not 0 <= offset <= offset + nbytes <= file.size:
        raise CheckpointError(
            f"{location}: {nbytes} bytes at byte {offset}, and the file ends at byte {file.size}: "
            "it is cut short"
        )
    return Tensor(name, tuple(shape), dtype, (Span(file, offset, nbytes),))


def check_cover(tensors: Iterable[Tensor], start: int, alignment: int = 1) -> int:
    """Refuses tensors of one span each that overlap, leave a hole, or reach beyond their file ->
    where the last one ends.

    Args:
        start: where the first one begins; each begins at a multiple of `alignment` after it.
    """
    position = end = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.position, tensor.spans[0].length)):
        (span,) = tensor.spans
        location = f"{span.file.path}: tensor {quoted(tensor.name)}"
        if span.offset != position:
            problem = "overlaps the one before it" if span.offset < position else "leaves a hole"
            raise CheckpointError(
                f"{location} starts at byte {span.offset - start} of the data, expected "
                f"{position - start}: it {problem}"
            )
        if (end := span.offset + span.length) > span.file.size:
            raise CheckpointError(
                f"{location}: {tensor.dtype} of shape {tensor.shape} takes the bytes {position} to "
                f"{end}, and the file ends at {span.file.size}: it is cut short"
            )
        position = -(-end // alignment) * alignment
    return end


def too_large(shape: Sequence[int], dtype: np.dtype) -> bool:
    """Tells whether NumPy cannot make such an array, even if one of its dimensions is 0."""
    return len(shape) > 32 or math.prod(max(n, 1) for n in shape) * dtype.itemsize > 1 << 62


@dataclasses.dataclass(frozen=True)
class Source:
    """An opened checkpoint.

    Attributes:
        where: what to call it in errors: a file or a folder.
        tensors: name -> lazy tensor.
        layout: `names.TORCH`, `FLAX`, `TF` or `PATHS`: how names and kernels are to be understood.
        metadata: what the file says of itself.
        absent: {tensor: file} of those that an index names and that are not in their files.
        passed_over: names of what the files hold and no model needs: the state of an optimizer.
    """

    where: str
    tensors: Mapping[str, Tensor]
    layout: str
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)
    passed_over: tuple[str, ...] = ()

    @property
    def files(self) -> list[File]:
        """The files that hold tensors, each once."""
        spans = (span for tensor in self.tensors.values() for span in tensor.spans)
        return list({span.file.path: span.file for span in spans}.values())

    @property
    def bytes_read(self) -> int:
        """Bytes read from all files since they were opened, headers included."""
        return sum(file.bytes_read for file in self.files)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise CheckpointError(f"{self.where}: no tensor {quoted(name)}")
        return self.tensors[name]
