"""Rebuilding: the lazy tensors that PyTorch's calls in a pickle would have made of storages."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from ...errors import CheckpointError, quoted
from ..files import Span
from ..source import Tensor, too_large
from .storages import DTYPES, ITEMSIZES, STORAGES, decoded
from .strided import Strided
from .terms import Call, Global, Term

_PLAIN = [], [None], [{}]  # metadata that does not say to conjugate or negate values


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """Makes the tensor that a call of PyTorch's would have rebuilt.

    Attributes:
        location: begins errors.
    """

    location: str
    spans: Mapping[str, Span]
    weights_only: bool

    def tensor(self, name: str, call: Call) -> Tensor:
        match call:
            case Call("torch._utils._rebuild_parameter", (Call() as data, _, _), False):
                call = data
            case Call("torch._utils._rebuild_parameter_with_state", (Call() as data, _, _, _)):
                call = call if self.weights_only else data
        match call:
            case Call("torch._utils._rebuild_tensor", (_, _, _, _) as view, False):
                return self._view(name, view)
            case Call(
                "torch._utils._rebuild_tensor_v2", (_, _, _, _, _, _, *metadata) as args, False
            ) if metadata in _PLAIN:
                return self._view(name, args[:4])
            case Call(
                "torch._utils._rebuild_tensor_v3",
                (_, _, _, _, _, _, Global(dtype), *metadata) as args,
                False,
            ) if metadata in _PLAIN:
                return self._view(name, args[:4], dtype)
        raise CheckpointError(
            f"{self.location}: what {call.name} makes of such arguments is not read"
        )

    def _view(self, name: str, view: Sequence[Term], declared: str | None = None) -> Tensor:
        """Makes a tensor of (storage, offset, size, strides); the storage says the dtype if the
        call does not."""
        term, offset, size, strides = view
        storage, part = decoded(self.location, term)
        kind = declared or STORAGES.get(storage.kind, storage.kind)
        if kind not in DTYPES:
            raise CheckpointError(
                f"{self.location}: {kind} cannot be held by JAX; known: {', '.join(DTYPES)}"
            )
        span = self.spans[storage.key]
        if part is not None:
            start, length = (count * ITEMSIZES[storage.kind] for count in part)
            span = Span(span.file, span.offset + start, length)
        if not _sizes(size) or not _sizes(strides) or type(offset) is not int or offset < 0:
            raise CheckpointError(f"{self.location}: offset, size and strides must be sizes")
        dtype = DTYPES[kind]
        if len(size) != len(strides) or too_large(size, dtype):
            raise CheckpointError(
                f"{self.location}: size {quoted(size)} is too large, or does not go with strides "
                f"{quoted(strides)}"
            )
        last = sum((n - 1) * step for n, step in zip(size, strides, strict=True))
        start, extent = offset * dtype.itemsize, (last + 1) * dtype.itemsize * (0 not in size)
        if start + extent > span.length:
            raise CheckpointError(
                f"{self.location}: bytes {start} to {start + extent} of a storage of {span.length}"
            )
        spans = (Span(span.file, span.offset + start, extent),)
        if _is_contiguous(size, strides):
            return Tensor(name, size, dtype, spans)
        strides = tuple(step if n > 1 else 0 for n, step in zip(size, strides, strict=True))
        return Strided(name, size, dtype, spans, strides)


def _sizes(values: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(values, tuple) and all(type(value) is int and value >= 0 for value in values)


def _is_contiguous(size: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for n, step in zip(reversed(size), reversed(strides), strict=True):
        if n != 1 and step != expected:
            return 0 in size
        expected *= n
    return True
