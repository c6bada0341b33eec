"""Tensors made of other tensors while they are read: what readers of quantised formats need."""

import dataclasses
import enum
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
        is_beside: whether its bytes in the checkpoint are counted as those of another tensor.
    """

    made: Made
    is_beside: bool = False

    @classmethod
    def of(
        cls,
        sources: Iterable[Tensor],
        shape: tuple[int, ...],
        dtype: np.dtype,
        made: Made,
        *,
        is_beside: bool = False,
    ) -> "Computed":
        """Makes the tensor that `made` computes of `sources`; its name is that of the first."""
        sources, dtype = [*sources], np.dtype(dtype)
        spans, first = tuple(span for tensor in sources for span in tensor.spans), sources[0]
        return cls(first.name, shape, dtype, spans, whole=first, made=made, is_beside=is_beside)

    @property
    def nbytes(self) -> int:
        return 0 if self.is_beside else super().nbytes

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        copy(self.made(bounds), out)


def taken(tensor: Tensor, axis: int, indices: np.ndarray) -> Tensor:
    """Returns the numbers `indices` of a tensor along an axis, which counts from 0."""
    shape = (*tensor.shape[:axis], len(indices), *tensor.shape[axis + 1 :])

    def made(bounds: Bounds) -> np.ndarray:
        some = indices[slice(*bounds[axis])]
        first, last = int(some.min()), int(some.max())
        around = (*bounds[:axis], (first, last + 1), *bounds[axis + 1 :])
        return tensor.read(around).take(some - first, axis)

    return Computed.of([tensor], shape, tensor.dtype, made)


Check = Callable[[Tensor, np.ndarray, Bounds], None]
"""Raises `CheckpointError` for numbers, those of a tensor between bounds, that are not what they
stand for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked(Tensor):
    """The tensor `whole`, whose numbers `check` sees when they are read."""

    check: Check

    @classmethod
    def of(cls, tensor: Tensor, check: Check) -> "Checked":
        spans, dtype = tensor.spans, tensor.dtype
        return cls(tensor.name, tensor.shape, dtype, spans, whole=tensor, check=check)

    @property
    def nbytes(self) -> int:
        assert self.whole is not None
        return self.whole.nbytes

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        assert self.whole is not None
        self.whole.fill(out, bounds)
        self.check(self, out, bounds)


class Scales(enum.Enum):
    """Which numbers scales may be: 0 is the scale of a block of zeros where it comes from the
    largest of its numbers; else it, or what is negative, is the mark of a damaged file."""

    FINITE = "a finite number"
    NOT_ZERO = "a finite number other than 0"
    POSITIVE = "a positive number"

    def check(self, tensor: Tensor, numbers: np.ndarray, bounds: Bounds) -> None:
        """Refuses a scale that is no such number."""
        numbers = numbers.astype(np.float32)
        fits = np.isfinite(numbers)
        if self is not Scales.FINITE:
            fits &= numbers > 0 if self is Scales.POSITIVE else numbers != 0
        if not fits.all():
            at = np.unravel_index(int(fits.argmin()), fits.shape)
            where = tuple(int(i) + start for i, (start, _) in zip(at, bounds, strict=True))
            raise misfit(
                tensor,
                f"holds {numbers[at]} at {where}, and a scale is {self.value}: the file is "
                "damaged; get it again",
            )


def check_order(tensor: Tensor, numbers: np.ndarray, bounds: Bounds) -> None:
    """Refuses what is no order of the numbers of a row."""
    size, ordered = tensor.shape[-1], np.sort(numbers, -1)
    is_whole = numbers.shape[-1] == size
    if (ordered != np.arange(size) if is_whole else (numbers < 0) | (numbers >= size)).any():
        raise misfit(
            tensor,
            f"is no order of {size} numbers, 0 to {size - 1} each once: the file is damaged; get "
            "it again",
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


def absent(tensor: Tensor, name: str) -> CheckpointError:
    """Makes the error of a tensor that another cannot do without."""
    return misfit(
        tensor, f"has no {quoted(name)} beside it: a tensor is missing; get the checkpoint again"
    )
