"""The header of a GGUF file: magic, version, metadata, and where each tensor lies.

The format's own description: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. It is
checked completely before any tensor is read: tensors have known types, lie in the file, one after
another, and names are unique.
"""

import dataclasses
import math

import numpy as np

from ...errors import CheckpointError, quoted
from ..files import Cursor, File
from ..source import too_large
from .metadata import Metadata, check_count, read_metadata, read_string, read_u32, read_u64
from .types import BLOCKS, PLAIN, REFUSED

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_LONGEST_HEADER = 256 << 20  # bytes
_LONGEST_NAME = 4096
_MOST_TENSORS = 1 << 16
_MOST_DIMENSIONS = 4
_ALIGNMENT, _LARGEST_ALIGNMENT = 32, 1 << 16


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a header says of a tensor.

    Attributes:
        shape: as NumPy and PyTorch have it; the file has the sizes in the opposite order.
        kind: the number of its type: a key of `PLAIN` or `BLOCKS`.
        offset, nbytes: of its bytes in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    nbytes: int


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of a file."""

    file: File
    metadata: Metadata
    entries: tuple[Entry, ...]


def read_header(file: File) -> Header:
    """Reads and checks the header of a file.

    Raises:
        CheckpointError: anything in it that is not as the format says, or is not read here.
    """
    if file.size < 24:
        raise CheckpointError(f"{file.path}: {file.size} bytes is too small for GGUF")
    file.reject_lookalikes()
    cursor = Cursor(file, 0, min(file.size, _LONGEST_HEADER))
    if (magic := cursor.take(4)) != MAGIC:
        raise CheckpointError(f"{file.path}: not GGUF: it begins with {magic!r}, not {MAGIC!r}")
    _check_version(file, read_u32(cursor))
    tensors, pairs = read_u64(cursor), read_u64(cursor)
    check_count(cursor, tensors, _MOST_TENSORS, least=24, what="tensors")
    metadata = read_metadata(cursor, pairs)
    check_count(cursor, tensors, _MOST_TENSORS, least=24, what="tensors")
    entries = [_entry(cursor) for _ in range(tensors)]
    alignment = _alignment(metadata)
    start = -(-cursor.position // alignment) * alignment
    entries = [dataclasses.replace(entry, offset=start + entry.offset) for entry in entries]
    _check_cover(file, entries, start, alignment)
    return Header(file, metadata, tuple(entries))


def _check_version(file: File, version: int) -> None:
    if version in _VERSIONS:
        return
    if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, *_VERSIONS):
        raise CheckpointError(
            f"{file.path}: big-endian GGUF, which is not read; write it anew with "
            "gguf_convert_endian.py of llama.cpp"
        )
    raise CheckpointError(
        f"{file.path}: GGUF of version {version}; read are {' and '.join(map(str, _VERSIONS))}"
        + ("; nothing has written 1 since 2023" if version == 1 else "")
    )


def _alignment(metadata: Metadata) -> int:
    alignment = metadata.whole("general.alignment", _ALIGNMENT)
    if not 1 <= alignment <= _LARGEST_ALIGNMENT or alignment & (alignment - 1):
        raise CheckpointError(
            f"{metadata.path}: metadata 'general.alignment' is {alignment}, expected a power of "
            f"two up to {_LARGEST_ALIGNMENT}"
        )
    return alignment


def _entry(cursor: Cursor) -> Entry:
    """Reads what a header says of one tensor; the offset is still that in the data."""
    name = read_string(cursor, "a tensor's name", most=_LONGEST_NAME)
    location = f"{cursor.file.path}: tensor {quoted(name)}"
    count = read_u32(cursor)
    if count > _MOST_DIMENSIONS:
        raise CheckpointError(f"{location}: {count} dimensions, at most {_MOST_DIMENSIONS}")
    shape = tuple(read_u64(cursor) for _ in range(count))[::-1]
    kind, offset = read_u32(cursor), read_u64(cursor)
    return Entry(name, shape, kind, offset, _nbytes(location, shape, kind))


def _nbytes(location: str, shape: tuple[int, ...], kind: int) -> int:
    """Returns the bytes of a tensor, after a check of its shape and type."""
    if 0 in shape or too_large(shape, np.dtype(np.float64)):
        raise CheckpointError(f"{location}: shape {quoted(shape)} has a size of 0, or is too large")
    if kind in PLAIN:
        return math.prod(shape) * PLAIN[kind].itemsize
    block = BLOCKS.get(kind)
    if block is None:
        called = REFUSED.get(kind, "unknown")
        known = ", ".join(
            [*(str(t.name) for t in PLAIN.values()), *(b.name for b in BLOCKS.values())]
        )
        raise CheckpointError(f"{location}: type {kind} ({called}) is not read; read are {known}")
    if len(shape) < 2:
        raise CheckpointError(f"{location}: {block.name} of shape {shape}, expected a matrix")
    if shape[-1] % block.size:
        raise CheckpointError(
            f"{location}: {block.name} of shape {shape}: rows of {shape[-1]} are no whole blocks "
            f"of {block.size}"
        )
    return math.prod(shape) // block.size * block.nbytes


def _check_cover(file: File, entries: list[Entry], start: int, alignment: int) -> None:
    """Refuses names that appear twice, and tensors that overlap, leave a hole, are not aligned, or
    do not lie in the file."""
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise CheckpointError(f"{file.path}: tensor {quoted(entry.name)} appears twice")
        seen.add(entry.name)
    position = start
    for entry in sorted(entries, key=lambda entry: entry.offset):
        location = f"{file.path}: tensor {quoted(entry.name)}"
        if entry.offset != position:
            problem = "overlaps the one before it" if entry.offset < position else "leaves a hole"
            raise CheckpointError(
                f"{location} starts at byte {entry.offset - start} of the data, expected "
                f"{position - start}: it {problem}"
            )
        end = entry.offset + entry.nbytes
        if end > file.size:
            raise CheckpointError(
                f"{location}: shape {entry.shape} takes the bytes {entry.offset} to {end}, and the "
                f"file ends at {file.size}: it is cut short"
            )
        position = -(-end // alignment) * alignment
