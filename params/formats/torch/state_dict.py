"""State dicts: named tensors out of the terms of a pickle, every claim of which is checked."""

import dataclasses
from collections.abc import Mapping
from typing import NoReturn

import jax.numpy as jnp
import numpy as np

from ...errors import CheckpointError, quoted, some, warn
from ..files import File, Span
from ..source import Tensor, too_large
from .pickles import LONGEST_TEXT, Machine
from .strided import Strided
from .terms import Call, Global, Persistent, Term

DTYPES = {
    f"torch.{name}": jnp.dtype(getattr(jnp, name))
    for name in (
        "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz "
        "float8_e5m2fnuz float8_e8m0fnu complex64 int64 int32 int16 int8 uint64 uint32 uint16 uint8"
    ).split()
} | {"torch.bool": np.dtype(np.bool_)}
_STORAGES = {
    "torch.DoubleStorage": "torch.float64",
    "torch.FloatStorage": "torch.float32",
    "torch.HalfStorage": "torch.float16",
    "torch.BFloat16Storage": "torch.bfloat16",
    "torch.ComplexFloatStorage": "torch.complex64",
    "torch.LongStorage": "torch.int64",
    "torch.IntStorage": "torch.int32",
    "torch.ShortStorage": "torch.int16",
    "torch.CharStorage": "torch.int8",
    "torch.ByteStorage": "torch.uint8",
    "torch.BoolStorage": "torch.bool",
    "torch.storage.UntypedStorage": "torch.uint8",
}
_UNHELD = {  # storages of what JAX cannot hold -> bytes of an element
    "torch.ComplexDoubleStorage": 16,
    "torch.QInt8Storage": 1,
    "torch.QUInt8Storage": 1,
    "torch.QUInt4x2Storage": 1,
    "torch.QUInt2x4Storage": 1,
    "torch.QInt32Storage": 4,
}
_ITEMSIZES = {kind: DTYPES[name].itemsize for kind, name in _STORAGES.items()} | _UNHELD
_KNOWN = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    *_STORAGES,
    *DTYPES,
}
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_DEEPEST = 16  # dicts within dicts
_MOST_CHARACTERS = 1 << 25  # of names that are put together
_HINT = "weights_only=False leaves out what is no tensor, and enters the dicts of a training"
_PLAIN = [], [None], [{}]  # metadata that does not say to conjugate or negate values
_MOST_EXPANSION = 2  # bytes of all views over bytes of the file


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers that tensors are views of.

    Attributes:
        kind: name of its class.
        size: number of its elements.
    """

    key: str
    kind: str
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * _ITEMSIZES[self.kind]


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a file holds, either format.

    Attributes:
        root: the term of the object that was saved.
        machine: the machine that evaluated it.
        spans: the bytes of each storage, by its key.
    """

    root: Term
    machine: Machine
    spans: Mapping[str, Span]


def storages(file: File, machine: Machine) -> dict[str, Storage]:
    """Lists the storages that the pickle refers to -> {key: storage}."""
    found: dict[str, Storage] = {}
    for term in machine.persistent:
        storage, _ = _storage(file.path, term)
        if found.setdefault(storage.key, storage) != storage:
            raise CheckpointError(
                f"{file.path}: storage {quoted(storage.key)} is {found[storage.key].size} of "
                f"{found[storage.key].kind} and {storage.size} of {storage.kind}"
            )
    return found


def _storage(location: str, term: object) -> tuple[Storage, tuple[int, int] | None]:
    """Decodes a storage -> (storage, (offset, size) of a view of it, None for all of it)."""
    match term:
        case Persistent(("storage", Global(kind), str(key), _, int(size), *view)):
            pass
        case _:
            raise CheckpointError(f"{location}: an object stored apart that is no storage")
    location = f"{location}: storage {quoted(key)}"
    if kind not in _ITEMSIZES or size < 0:
        raise CheckpointError(
            f"{location}: {size} elements of {kind}; known: {', '.join(_STORAGES)}"
        )
    match view:
        case [] | [None]:
            return Storage(key, kind, size), None
        case [(_, int(offset), int(length))] if 0 <= offset and 0 <= length <= size - offset:
            return Storage(key, kind, size), (offset, length)
    raise CheckpointError(f"{location}: a view that does not lie in its {size} elements")


def read_tensors(file: File, saved: Saved, *, weights_only: bool) -> dict[str, Tensor]:
    """Finds the tensors -> {name: lazy tensor}; any other value is an error, or left out."""
    entries = _entries(file, saved.root, weights_only)
    tensors: dict[str, Tensor] = {}
    for name, value in entries.items():
        if _is_tensor(value):
            location = f"{file.path}: tensor {quoted(name)}"
            tensors[name] = _Rebuilt(location, saved.spans, weights_only).tensor(name, value)
        elif weights_only:
            _refuse(file, entries, f"{quoted(name)} holds {_kind(value)}, not a tensor; {_HINT}")
    unknown = sorted(saved.machine.globals - _KNOWN)
    if weights_only and (unknown or saved.machine.odd_key):
        odd = f"a key that is no text of at most {LONGEST_TEXT} bytes"
        _refuse(file, entries, f"not only tensors: {some(unknown, 3) or odd}; {_HINT}")
    if not tensors and (entries or saved.machine.odd_key):
        _refuse(file, entries, "no tensors")
    _check_expansion(file, tensors)
    return tensors


def _entries(file: File, root: Term, weights_only: bool) -> dict[str, Term]:
    """Finds the state dict in `root`: itself, or without `weights_only` the one in a training's
    file.

    There the one dict that has tensors is entered, which is said. Of several, all tensors are here
    under the names of their dicts too: which of them are meant is seen by what a model asks for.
    """
    if not isinstance(root, dict):
        raise CheckpointError(f"{file.path}: {_kind(root)} at the top, expected a dict of tensors")
    if weights_only:
        return root
    entered: list[str] = []
    beside: list[str] = []
    for _ in range(_DEEPEST):
        own = {name: value for name, value in root.items() if _is_tensor(value)}
        inside = _inside(file, root)
        is_training = any(key in _WRAPPERS for key in inside)
        if not is_training and sum(map(len, inside.values())) <= len(own):
            break
        if len(inside) > 1:
            root = own | _joined(file, inside)
            break
        (key,) = inside
        beside += [name for name in root if name != key]
        entered.append(key)
        root = root[key]
    if entered:
        left = f"; not read: {some(map(quoted, beside), 5)}" if beside else ""
        warn(f"{file.path}: the tensors are those under {quoted('.'.join(entered))}{left}")
    return root


def _inside(file: File, root: dict[str, Term]) -> dict[str, dict[str, Term]]:
    """Finds the tensors in the dicts of a dict, at any depth -> {key: {name: tensor}}. Each is
    entered once: pickles may hold a dict that holds itself, or the same one a million times."""
    seen = {id(root)}
    inside = {}
    for key, value in root.items():
        if isinstance(value, dict) and (tensors := _joined(file, {"": value}, seen)):
            inside[key] = tensors
    return inside


def _joined(
    file: File, dicts: dict[str, dict[str, Term]], seen: set[int] | None = None
) -> dict[str, Term]:
    """Joins dicts in dicts -> {name: tensor}, names joined by dots."""
    seen = set() if seen is None else seen
    found: dict[str, Term] = {}
    characters = 0
    waiting = [(key, value, 0) for key, value in dicts.items()]
    while waiting:
        under, node, depth = waiting.pop()
        if id(node) in seen or depth > _DEEPEST:
            continue
        seen.add(id(node))
        for key, value in node.items():
            if not (_is_tensor(value) or isinstance(value, dict)):
                continue
            name = f"{under}.{key}" if under else key
            characters += len(name)
            if characters > _MOST_CHARACTERS or name in found:
                _refuse(file, dicts, f"{quoted(name)} is there twice, or names are too long")
            if isinstance(value, dict):
                waiting.append((name, value, depth + 1))
            else:
                found[name] = value
    return found


def _refuse(file: File, entries: dict[str, Term], problem: str) -> NoReturn:
    raise CheckpointError(
        f"{file.path}: {problem}; the file's keys are {some(map(quoted, entries), 5)}"
    )


def _is_tensor(value: object) -> bool:
    return isinstance(value, Call) and value.name.startswith(
        ("torch._utils._rebuild", "torch._tensor._rebuild")
    )


def _kind(value: object) -> str:
    if isinstance(value, Call | Global | Persistent):
        return value.name
    return f"a {type(value).__name__}"


@dataclasses.dataclass(frozen=True)
class _Rebuilt:
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
            case Call("torch._utils._rebuild_tensor", (storage, offset, size, strides), False):
                return self._view(name, storage, offset, size, strides)
            case Call(
                "torch._utils._rebuild_tensor_v2",
                (storage, offset, size, strides, _, _, *metadata),
                False,
            ) if metadata in _PLAIN:
                return self._view(name, storage, offset, size, strides)
            case Call(
                "torch._utils._rebuild_tensor_v3",
                (storage, offset, size, strides, _, _, Global(dtype), *metadata),
                False,
            ) if metadata in _PLAIN:
                return self._view(name, storage, offset, size, strides, dtype)
        raise CheckpointError(
            f"{self.location}: what {call.name} makes of such arguments is not read"
        )

    def _view(
        self,
        name: str,
        term: Term,
        offset: Term,
        size: Term,
        strides: Term,
        dtype: str | None = None,
    ) -> Tensor:
        storage, part = _storage(self.location, term)
        kind = dtype or _STORAGES.get(storage.kind, storage.kind)
        if kind not in DTYPES:
            raise CheckpointError(
                f"{self.location}: {kind} cannot be held by JAX; known: {', '.join(DTYPES)}"
            )
        span = self.spans[storage.key]
        if part is not None:
            start, length = (count * _ITEMSIZES[storage.kind] for count in part)
            span = Span(span.file, span.offset + start, length)
        if not _sizes(size) or not _sizes(strides) or not _sizes((offset,)):
            raise CheckpointError(f"{self.location}: offset, size and strides must be sizes")
        return self._within(span, name, DTYPES[kind], offset, size, strides)

    def _within(
        self, span: Span, name: str, dtype: np.dtype, offset: int, size: tuple, strides: tuple
    ) -> Tensor:
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


def _sizes(values: object) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and value >= 0 for value in values)


def _is_contiguous(size: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for n, step in zip(reversed(size), reversed(strides), strict=True):
        if n != 1 and step != expected:
            return 0 in size
        expected *= n
    return True


def _check_expansion(file: File, tensors: dict[str, Tensor]) -> None:
    """Refuses views that make far more bytes than the file has; one of several names counts
    once."""
    views = {
        (tensor.position, tensor.shape, getattr(tensor, "strides", ()), tensor.dtype): tensor
        for tensor in tensors.values()
    }
    total = sum(view.nbytes for view in views.values())
    if total > _MOST_EXPANSION * file.size:
        largest = max(views.values(), key=lambda view: view.nbytes)
        raise CheckpointError(
            f"{file.path}: tensors of {total} bytes in a file of {file.size}; the largest is "
            f"{quoted(largest.name)} of size {quoted(largest.shape)}"
        )
