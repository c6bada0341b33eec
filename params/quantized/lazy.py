"""Tensors made of other tensors while they are read: what readers of quantised formats need."""

import abc
import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np

from ..errors import CheckpointError, quoted
from ..formats.source import ArrayTensor, Bounds, Tensor
from ..host.copies import copy

Made = Callable[[Bounds], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Computed(Tensor):
    """A tensor that a function computes, part by part.

    Attributes:
        made: (start, stop) of each dimension -> that part of the tensor. It reads what the part
            needs and no more; it is called by several threads at once.
    """

    made: Made

    @classmethod
    def of(
        cls, sources: Iterable[Tensor], shape: tuple[int, ...], dtype: np.dtype, made: Made
    ) -> "Computed":
        """Makes the tensor that `made` computes of `sources`; its name is that of the first."""
        sources = [*sources]
        spans = tuple(span for tensor in sources for span in tensor.spans)
        return cls(sources[0].name, shape, np.dtype(dtype), spans, whole=sources[0], made=made)

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        copy(self.made(bounds), out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taken(Tensor):
    """The numbers `indices` of another tensor, `whole`, along an axis."""

    axis: int
    indices: np.ndarray = dataclasses.field(compare=False)

    @classmethod
    def of(cls, tensor: Tensor, axis: int, indices: np.ndarray) -> "Taken":
        shape = [*tensor.shape]
        shape[axis] = len(indices)
        axis = axis % len(shape)
        spans, dtype = tensor.spans, tensor.dtype
        return cls(
            tensor.name, tuple(shape), dtype, spans, whole=tensor, axis=axis, indices=indices
        )

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        assert self.whole is not None
        indices = self.indices[slice(*bounds[self.axis])]
        first, last = int(indices.min()), int(indices.max())
        around = (*bounds[: self.axis], (first, last + 1), *bounds[self.axis + 1 :])
        copy(self.whole.read(around).take(indices - first, self.axis), out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Checked(Tensor, abc.ABC):
    """The tensor `whole`, whose numbers are checked when they are read."""

    @property
    def nbytes(self) -> int:
        assert self.whole is not None
        return self.whole.nbytes

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        assert self.whole is not None
        self.whole.fill(out, bounds)
        self.check(out, bounds)

    @abc.abstractmethod
    def check(self, out: np.ndarray, bounds: Bounds) -> None:
        """Raises `CheckpointError` for numbers that are not what they stand for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finite(_Checked):
    """Scales: the tensor `whole`, checked when it is read.

    Attributes:
        zeros: whether one may be 0.
    """

    zeros: bool

    @classmethod
    def of(cls, tensor: Tensor, *, zeros: bool) -> "Finite":
        spans, dtype = tensor.spans, tensor.dtype
        return cls(tensor.name, tensor.shape, dtype, spans, whole=tensor, zeros=zeros)

    def check(self, out: np.ndarray, bounds: Bounds) -> None:
        numbers = out.astype(np.float32)
        odd = ~np.isfinite(numbers) if self.zeros else ~(np.isfinite(numbers) & (numbers != 0))
        if odd.any():
            at = np.unravel_index(int(odd.argmax()), odd.shape)
            where = tuple(int(i) + start for i, (start, _) in zip(at, bounds, strict=True))
            raise misfit(
                self,
                f"holds {numbers[at]} at {where}, and a scale is a finite number"
                f"{'' if self.zeros else ' other than 0'}: the file is damaged; get it again",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order(_Checked):
    """The order of the numbers of a row: the tensor `whole`, checked when it is read."""

    @classmethod
    def of(cls, tensor: Tensor) -> "Order":
        return cls(tensor.name, tensor.shape, tensor.dtype, tensor.spans, whole=tensor)

    def check(self, out: np.ndarray, bounds: Bounds) -> None:
        size, ordered = self.shape[-1], np.sort(out, -1)
        is_whole = out.shape[-1] == size
        if (ordered != np.arange(size)).any() if is_whole else ((out < 0) | (out >= size)).any():
            raise misfit(
                self,
                f"is no order of {size} numbers, 0 to {size - 1} each once: the file is damaged; "
                "get it again",
            )


def viewed(tensor: Tensor, shape: tuple[int, ...], dtype: np.dtype | None = None) -> Tensor:
    """Returns the same bytes as a tensor of another shape and dtype, as `numpy.ndarray.view` and
    `reshape` would; -1 for one size that follows.

    Raises:
        CheckpointError: a shape of another number of bytes.
    """
    dtype = tensor.dtype if dtype is None else np.dtype(dtype)
    size = tensor.nbytes // dtype.itemsize
    if -1 in shape:
        rest = -math.prod(shape)
        shape = tuple(size // max(rest, 1) if n == -1 else n for n in shape)
    if math.prod(shape) * dtype.itemsize != tensor.nbytes:
        raise misfit(
            tensor,
            f"has shape {tensor.shape} and dtype {tensor.dtype}, {tensor.nbytes} bytes, and "
            f"{dtype}{list(shape)} was expected, {math.prod(shape) * dtype.itemsize}",
        )
    if type(tensor) is Tensor:
        return dataclasses.replace(tensor, shape=shape, dtype=dtype)
    if isinstance(tensor, ArrayTensor):
        array = np.ascontiguousarray(tensor.array).reshape(-1).view(dtype).reshape(shape)
        return ArrayTensor(tensor.name, shape, dtype, array=array)

    def made(bounds: Bounds) -> np.ndarray:
        whole = tensor.read().reshape(-1).view(dtype).reshape(shape)
        return whole[tuple(slice(*bound) for bound in bounds)]

    return Computed.of([tensor], shape, dtype, made)


def misfit(tensor: Tensor, problem: str) -> CheckpointError:
    """Makes the error of a tensor that does not fit: file, tensor, problem."""
    where = tensor.spans[0].file.path if tensor.spans else "state_dict"
    return CheckpointError(f"{where}: tensor {quoted(tensor.name)} {problem}")
