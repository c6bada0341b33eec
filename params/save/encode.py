"""Encoding: what the bytes of a weights file are, part by part, before any tensor is read."""

import dataclasses
import json
import math
import struct
from collections.abc import Iterator, Mapping

import msgpack

from ..formats import msgpack as msgpack_format
from ..formats import safetensors as safetensors_format
from ..strict_json import Json
from ..tree.paths import unflatten
from ..types import PyTree
from .tensor_specs import TensorSpec

_MSGPACK_CHUNK = 1 << 30  # bytes; flax splits larger arrays


@dataclasses.dataclass(frozen=True)
class Data:
    """The bytes of elements `start` to `stop` of a tensor."""

    spec: TensorSpec
    start: int
    stop: int


Parts = Iterator[bytes | Data]


def safetensors_parts(shard: list[TensorSpec], metadata: Mapping[str, str]) -> Parts:
    """Returns a safetensors file of these tensors."""
    header: dict[str, Json] = {"__metadata__": dict(metadata)}
    position = 0
    # Wide dtypes first, as the reference writer does: every tensor is then aligned to its dtype.
    shard = sorted(shard, key=lambda spec: -spec.dtype.itemsize)
    for spec in shard:
        end = position + spec.nbytes
        header[spec.name] = {
            "dtype": safetensors_format.NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for spec in shard:
        yield Data(spec, 0, math.prod(spec.shape))


def msgpack_parts(shard: list[TensorSpec], metadata: Mapping[str, str]) -> Parts:
    """Returns a flax msgpack file of these tensors; the format has no place for metadata."""
    packer = msgpack.Packer()

    def parts(node: PyTree) -> Parts:
        if isinstance(node, TensorSpec):
            yield from _msgpack_array(node, packer)
        else:
            yield packer.pack_map_header(len(node))
            for key, child in node.items():
                yield packer.pack(key)
                yield from parts(child)

    yield from parts(unflatten({spec.name: spec for spec in shard}))


def _msgpack_array(spec: TensorSpec, packer: msgpack.Packer) -> Parts:
    """Returns one array; a large one as a map of chunks, as flax makes it."""
    size = math.prod(spec.shape)
    if spec.nbytes <= _MSGPACK_CHUNK:
        yield _msgpack_head(spec, spec.shape, packer)
        yield Data(spec, 0, size)
        return
    step = max(1, _MSGPACK_CHUNK // spec.dtype.itemsize)
    chunks = range(0, size, step)
    yield packer.pack_map_header(3)
    yield packer.pack(msgpack_format.CHUNKED) + packer.pack(True)
    yield packer.pack("shape") + packer.pack({str(i): n for i, n in enumerate(spec.shape)})
    yield packer.pack("chunks") + packer.pack_map_header(len(chunks))
    for i, start in enumerate(chunks):
        stop = min(start + step, size)
        yield packer.pack(str(i)) + _msgpack_head(spec, (stop - start,), packer)
        yield Data(spec, start, stop)


def _msgpack_head(spec: TensorSpec, shape: tuple[int, ...], packer: msgpack.Packer) -> bytes:
    """Returns what precedes the bytes of an array of this shape: an extension of [shape, dtype,
    bytes]."""
    head = b"\x93" + packer.pack(list(shape)) + packer.pack(spec.dtype.name)
    size = math.prod(shape) * spec.dtype.itemsize
    head += _sized(0xC4, size)  # bin 8
    return _sized(0xC7, len(head) + size) + b"\x01" + head  # ext 8


def _sized(code: int, size: int) -> bytes:
    """Returns a code and a size in as few bytes as it needs: the codes for 8, 16 and 32 bits follow
    each other."""
    width = 0 if size < 1 << 8 else 1 if size < 1 << 16 else 2
    return struct.pack(f">B{'BHI'[width]}", code + width, size)
