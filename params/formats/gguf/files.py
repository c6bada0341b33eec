"""The files of a GGUF checkpoint: one, or the parts that a name such as
`x-00001-of-00003.gguf` counts."""

import os
import re

from ...errors import CheckpointError, quoted
from ..store import LOCAL, Reads, Store
from .header import Gguf, read_header

_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_MOST_PARTS = 10_000


def open_gguf(path: str, store: Store = LOCAL) -> Gguf:
    """Opens a file, or all parts of a checkpoint by the path of the first one.

    Raises:
        CheckpointError: a header that is not as the format says; a part that is not there, is not
            the one that its name says, or holds a tensor of another part.
    """
    store.expect([path], Reads.START)
    header = read_header(store.open(path))
    tensors = header.tensors
    for number, part in enumerate(_other_parts(path, header, store), 1):
        other = read_header(store.open(part))
        _check_part(other, number, header)
        if twice := [name for name in other.tensors if name in tensors]:
            raise CheckpointError(
                f"{part}: tensor {quoted(twice[0])} is in an earlier part of {path} too"
            )
        tensors = tensors | other.tensors
    declared = header.metadata.whole("split.tensors.count", len(tensors))
    if declared != len(tensors):
        raise CheckpointError(
            f"{path}: metadata 'split.tensors.count' is {declared}, and its files hold "
            f"{len(tensors)} tensors"
        )
    return Gguf(path, header.metadata, tensors)


def _other_parts(path: str, header: Gguf, store: Store) -> list[str]:
    """Returns the paths of the parts after the first one."""
    count = header.metadata.whole("split.count", 1)
    if count <= 1:
        return []
    folder, name = os.path.split(path)
    match = _PART.fullmatch(name)
    if match is None or int(match["count"]) != count or count > _MOST_PARTS:
        raise CheckpointError(
            f"{path}: metadata 'split.count' is {count}, and the file is not called "
            f"...-00001-of-{count:05d}.gguf"
        )
    names = [f"{match['stem']}-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1)]
    if header.metadata.whole("split.no", 0) or name != names[0]:
        raise CheckpointError(f"{path}: one of {count} parts; give the first, {quoted(names[0])}")
    parts = [os.path.join(folder, name) for name in names[1:]]
    if lost := [part for part in parts if not store.exists(part)]:
        raise CheckpointError(
            f"{path}: one of {count} parts, and {len(lost)} are not there: {quoted(lost[0])}"
        )
    store.expect(parts, Reads.START)
    return parts


def _check_part(header: Gguf, number: int, first: Gguf) -> None:
    """Refuses a part that says it is another, or one of another number of parts."""
    found = tuple(header.metadata.whole(f"split.{key}", 0) for key in ("no", "count"))
    expected = number, first.metadata.whole("split.count")
    if found != expected:
        raise CheckpointError(
            f"{header.metadata.path}: it says that it is part {found[0]} (from 0) of {found[1]}; "
            f"expected {expected[0]} of {expected[1]}, the parts of {first.metadata.path}"
        )
