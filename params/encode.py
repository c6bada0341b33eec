"""Encoding: the bytes of a weights file, part by part, one tensor in memory at a time."""

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack
import numpy as np

from .entries import Entry
from .formats import msgpack as msgpack_format
from .formats import safetensors as safetensors_format
from .paths import unflatten

_MSGPACK_CHUNK = 1 << 30  # bytes; flax splits larger arrays
Parts = Iterator[bytes | memoryview]
"""A memoryview is a tensor's data, bytes are what stands around it."""


def safetensors_parts(shard: list[Entry], metadata: Mapping[str, str]) -> Parts:
    """A safetensors file of these tensors."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    # Wide dtypes first, as the reference writer does: every tensor is then aligned to its dtype.
    shard = sorted(shard, key=lambda entry: -entry.dtype.itemsize)
    for entry in shard:
        end = position + entry.nbytes
        header[entry.name] = {
            "dtype": safetensors_format.NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for entry in shard:
        yield _bytes(entry.read())


def msgpack_parts(shard: list[Entry], metadata: Mapping[str, str]) -> Parts:
    """A flax msgpack file of these tensors; the format has no place for metadata."""
    packer = msgpack.Packer()

    def parts(node: Any) -> Parts:
        if isinstance(node, Entry):
            yield from _msgpack_array(node, packer)
        else:
            yield packer.pack_map_header(len(node))
            for key, child in node.items():
                yield packer.pack(key)
                yield from parts(child)

    yield from parts(unflatten({entry.name: entry for entry in shard}))


def _msgpack_array(entry: Entry, packer: msgpack.Packer) -> Parts:
    """The bytes of one array; of a large one, a map of chunks as flax makes it."""
    array = entry.read()
    if array.nbytes <= _MSGPACK_CHUNK:
        yield from _msgpack_extension(array, packer)
        return
    flat = array.reshape(-1)
    step = max(1, _MSGPACK_CHUNK // array.dtype.itemsize)
    chunks = range(0, flat.size, step)
    yield packer.pack_map_header(3)
    yield packer.pack(msgpack_format.CHUNKED) + packer.pack(True)
    yield packer.pack("shape") + packer.pack({str(i): n for i, n in enumerate(array.shape)})
    yield packer.pack("chunks") + packer.pack_map_header(len(chunks))
    for i, start in enumerate(chunks):
        yield packer.pack(str(i))
        yield from _msgpack_extension(flat[start : start + step], packer)


def _msgpack_extension(array: np.ndarray, packer: msgpack.Packer) -> Parts:
    head = b"\x93" + packer.pack(list(array.shape)) + packer.pack(array.dtype.name)
    size = array.nbytes
    head += (
        struct.pack(">BB", 0xC4, size)
        if size < 1 << 8
        else struct.pack(">BH", 0xC5, size)
        if size < 1 << 16
        else struct.pack(">BI", 0xC6, size)
    )
    yield _extension_header(len(head) + size) + head
    yield _bytes(array)


def _extension_header(length: int) -> bytes:
    if length < 1 << 8:
        return struct.pack(">BBb", 0xC7, length, 1)
    if length < 1 << 16:
        return struct.pack(">BHb", 0xC8, length, 1)
    return struct.pack(">BIb", 0xC9, length, 1)


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
