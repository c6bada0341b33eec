"""The format before PyTorch 1.6: pickles of a magic number, a version, the writer's machine, the
object and the keys of its storages, then the storages: 8 bytes of length, and the elements."""

import struct

from ...errors import CheckpointError, quoted, some
from ..files import Cursor, File, Span
from .pickles import Machine
from .state_dict import Saved
from .storages import storages

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001


def load(file: File) -> Saved:
    """Evaluates the pickles of a file, and finds its storages.

    Raises:
        CheckpointError: not such a file, or one that is not as the format says.
    """
    cursor = Cursor(file)
    machine = Machine(cursor)
    _check_head(file, machine)
    root, keys = machine.load(), machine.load()
    return Saved(root, machine, _spans(file, cursor, machine, keys))


def _check_head(file: File, machine: Machine) -> None:
    try:
        magic = machine.load()
    except CheckpointError as error:
        raise CheckpointError(
            f"{file.path}: neither a zip archive nor pickles, so not written by torch.save: {error}"
        ) from None
    if magic != _MAGIC:
        raise CheckpointError(f"{file.path}: pickles, but not written by torch.save")
    if machine.load() != _VERSION:
        raise CheckpointError(f"{file.path}: not version {_VERSION} of the format")
    writer = machine.load()
    if not isinstance(writer, dict) or writer.get("little_endian") is not True:
        raise CheckpointError(f"{file.path}: not written on a little-endian machine")


def _spans(file: File, cursor: Cursor, machine: Machine, keys: object) -> dict[str, Span]:
    expected = storages(file, machine)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError(f"{file.path}: the keys of the storages are no list of texts")
    if sorted(keys) != sorted(expected):
        raise CheckpointError(
            f"{file.path}: storages {some(map(quoted, keys), 3)} are there, the tensors need "
            f"{some(map(quoted, expected), 3)}"
        )
    spans: dict[str, Span] = {}
    for key in keys:
        (size,) = struct.unpack("<q", cursor.take(8))
        if size != expected[key].size:
            raise CheckpointError(
                f"{file.path}: storage {quoted(key)} has {size} elements, expected "
                f"{expected[key].size}"
            )
        spans[key] = Span(file, cursor.position, expected[key].nbytes)
        cursor.skip(expected[key].nbytes)
    if cursor.position != file.size:
        raise CheckpointError(
            f"{file.path}: {file.size - cursor.position} bytes follow the last storage"
        )
    return spans
