"""The header of a GGUF file: magic, version, metadata, and where each tensor lies.

The format's own description: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. It is
checked completely before any tensor is read: tensors have known types, lie in the file, one after
another, and names are unique.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from ...errors import CheckpointError, quoted
from ..files import Cursor, File, Span
from ..source import Tensor, check_cover, too_large
from .metadata import Metadata, check_count, read_metadata, read_string, read_u32, read_u64
from .types import BLOCKS, PLAIN, REFUSED, BlockTensor

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_LONGEST_HEADER = 256 << 20  # bytes
_LONGEST_NAME = 4096
_MOST_TENSORS = 1 << 16
_MOST_DIMENSIONS = 4
_ALIGNMENT, _LARGEST_ALIGNMENT = 32, 1 << 16


@dataclasses.dataclass(frozen=True)
class Gguf:
    """An opened checkpoint: its metadata, and its tensors under the names of the file, lazily."""

    path: str
    metadata: Metadata
    tensors: dict[str, Tensor]


def read_header(file: File) -> Gguf:
    """Reads and checks the header of a file -> what it holds.

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
    infos = [_info(cursor) for _ in range(tensors)]
    alignment = _alignment(metadata)
    start = -(-cursor.position // alignment) * alignment
    found: dict[str, Tensor] = {}
    for info in infos:
        if info.name in found:
            raise CheckpointError(f"{file.path}: tensor {quoted(info.name)} appears twice")
        found[info.name] = _tensor(file, info, start)
    check_cover(found.values(), start, alignment)
    return Gguf(file.path, metadata, found)


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


class _Info(NamedTuple):
    """What a header says of a tensor; its offset is that in the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def _info(cursor: Cursor) -> _Info:
    name = read_string(cursor, "a tensor's name", most=_LONGEST_NAME)
    count = read_u32(cursor)
    if count > _MOST_DIMENSIONS:
        raise CheckpointError(
            f"{cursor.file.path}: tensor {quoted(name)}: {count} dimensions, at most "
            f"{_MOST_DIMENSIONS}"
        )
    shape = tuple(read_u64(cursor) for _ in range(count))[::-1]  # NumPy's and PyTorch's order
    return _Info(name, shape, read_u32(cursor), read_u64(cursor))


def _tensor(file: File, info: _Info, start: int) -> Tensor:
    """Makes a tensor of the data that begin at byte `start`, after a check of its shape and type.
    Whether they are there is seen when all tensors are known."""
    name, shape, kind, offset = info
    location = f"{file.path}: tensor {quoted(name)}"
    if 0 in shape or too_large(shape, np.dtype(np.float64)):
        raise CheckpointError(f"{location}: shape {quoted(shape)} has a size of 0, or is too large")
    if kind in PLAIN:
        nbytes = math.prod(shape) * PLAIN[kind].itemsize
        return Tensor(name, shape, PLAIN[kind], (Span(file, start + offset, nbytes),))
    block = BLOCKS.get(kind)
    if block is None:
        called = REFUSED.get(kind, "unknown")
        known = ", ".join(each.name for each in (*PLAIN.values(), *BLOCKS.values()))
        raise CheckpointError(f"{location}: type {kind} ({called}) is not read; read are {known}")
    if len(shape) < 2:
        raise CheckpointError(f"{location}: {block.name} of shape {shape}, expected a matrix")
    if shape[-1] % block.size:
        raise CheckpointError(
            f"{location}: {block.name} of shape {shape}: rows of {shape[-1]} are no whole blocks "
            f"of {block.size}"
        )
    stored = (*shape[:-1], shape[-1] // block.size * block.nbytes)
    spans = (Span(file, start + offset, math.prod(stored)),)
    return BlockTensor(name, stored, np.dtype(np.uint8), spans, block=block)
