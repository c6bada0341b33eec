"""State dicts: named tensors out of the terms of a pickle, every claim of which is checked."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NoReturn, TypeGuard

from ...errors import CheckpointError, quoted, some, warn
from ..files import File, Span
from ..source import Tensor
from .pickles import LONGEST_TEXT, Machine
from .rebuilding import Rebuilt
from .storages import DTYPES, STORAGES
from .terms import Call, Global, Persistent, Term

_KNOWN = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    *STORAGES,
    *DTYPES,
}
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_DEEPEST = 16  # dicts within dicts
_MOST_CHARACTERS = 1 << 25  # of names that are put together
_HINT = "weights_only=False leaves out what is no tensor, and enters the dicts of a training"
_MOST_EXPANSION = 2  # bytes of all views over bytes of the file


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


def read_tensors(file: File, saved: Saved, *, weights_only: bool) -> dict[str, Tensor]:
    """Finds the tensors -> {name: lazy tensor}; any other value is an error, or left out."""
    entries = _entries(file, saved.root, weights_only)
    tensors: dict[str, Tensor] = {}
    for name, value in entries.items():
        if _is_tensor(value):
            location = f"{file.path}: tensor {quoted(name)}"
            tensors[name] = Rebuilt(location, saved.spans, weights_only).tensor(name, value)
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
        below = root[key]
        assert isinstance(below, dict)  # as of all that `_inside` finds
        root = below
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


def _refuse(file: File, names: Iterable[str], problem: str) -> NoReturn:
    raise CheckpointError(
        f"{file.path}: {problem}; the file's keys are {some(map(quoted, names), 5)}"
    )


def _is_tensor(value: object) -> TypeGuard[Call]:
    return isinstance(value, Call) and value.name.startswith(
        ("torch._utils._rebuild", "torch._tensor._rebuild")
    )


def _kind(value: object) -> str:
    if isinstance(value, Call | Global | Persistent):
        return value.name
    return f"a {type(value).__name__}"


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
