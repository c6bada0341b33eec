"""Writing: params -> checkpoint files, one tensor in host memory at a time."""

import dataclasses
import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
from tqdm import tqdm

from .errors import CheckpointError
from .formats import MSGPACK, SAFETENSORS
from .formats import msgpack as msgpack_format
from .formats import safetensors as safetensors_format
from .names import FLAX, PLAIN, TORCH, Naming, Place, is_stacked, places
from .paths import flatten, unflatten

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{infix}B": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGT", 1)
}
_MSGPACK_CHUNK = 1 << 30  # bytes; flax splits larger arrays


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint to be written: a leaf, or one layer of a stacked leaf."""

    leaf: Any
    place: Place

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def dtype(self) -> Any:
        return self.leaf.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        inner = self.leaf.shape[len(self.place.index) :]
        return tuple(inner[axis] for axis in np.argsort(self.place.permutation))

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """The tensor in host memory, in the checkpoint's layout; the device transposes it."""
        piece = _layer(self.leaf, *self.place.index) if self.place.index else self.leaf
        inverse = tuple(int(axis) for axis in np.argsort(self.place.permutation))
        if inverse != tuple(range(len(inverse))):
            xp = np if isinstance(piece, np.ndarray) else jnp
            piece = xp.transpose(piece, inverse)
        return np.asarray(jax.device_get(piece), order="C")


def _layer(leaf: Any, index: int) -> Any:
    """`leaf[index]`. Layers spread over devices are put together on the host: what the partitioner
    makes of the lookup is a sum, and loses the sign of a zero."""
    if isinstance(leaf, np.ndarray) or leaf.sharding.shard_shape(leaf.shape)[0] == leaf.shape[0]:
        return leaf[index]
    layer = np.empty(leaf.shape[1:], leaf.dtype)
    for shard in leaf.addressable_shards:
        start, stop, _ = shard.index[0].indices(leaf.shape[0])
        if shard.replica_id == 0 and start <= index < stop:
            layer[shard.index[1:]] = np.asarray(shard.data[index - start])
    return layer


def entries(params: Any, template: Any, naming: Naming, layout: str) -> list[Entry]:
    """What of `params` goes under which name, in the order of names.

    Args:
        template: tree of abstract leaves that `params` must agree with, in structure and shapes.

    Raises:
        CheckpointError: a leaf that is missing, too much, of another shape, or that has the name
            of another; with its path.
    """
    leaves, wanted = flatten(params), flatten(template)
    if odd := sorted(leaves.keys() ^ wanted.keys()):
        problem = "is not in the params" if odd[0] in wanted else "is no leaf of the model"
        raise CheckpointError(f"{odd[0]} {problem} ({len(odd)} such leaves); nothing was written")
    made = []
    for path, leaf in leaves.items():
        if tuple(leaf.shape) != tuple(wanted[path].shape):
            raise CheckpointError(
                f"{path} has shape {tuple(leaf.shape)}, the model's is {wanted[path].shape}; "
                "nothing was written"
            )
        where = places(path, leaf.shape, naming, layout, stacked=is_stacked(wanted[path]))
        made += [Entry(leaf, place) for place in where]
    for path, copy in naming.copies:
        if layout == TORCH and path in leaves and copy not in leaves:
            shape = leaves[path].shape
            where = places(copy, shape, naming, layout, stacked=False)
            made += [Entry(leaves[path], place) for place in where]
    names = [entry.name for entry in made]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise CheckpointError(f"two leaves have the name {twice[0]}; nothing was written")
    return sorted(made, key=lambda entry: _natural(entry.name))


def parse_size(size: int | str) -> int:
    """Bytes of 5_000_000, "5GB" (decimal) or "5GiB" (binary).

    Raises:
        ValueError: not a positive size.

    >>> parse_size("5GB"), parse_size("1.5 KiB")
    (5000000000, 1536)
    """
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?i?B)", str(size).strip(), re.IGNORECASE)
    if match:
        unit = match[2].upper().replace("I", "i")
        count = int(float(match[1]) * _UNITS.get(unit, 0))
        if count > 0:
            return count
    raise ValueError(f'max_shard_size is {size!r}; give bytes, or a string such as "5GB", "500MiB"')


def plan_shards(made: list[Entry], limit: int) -> list[list[Entry]]:
    """Entries in order, each shard at most `limit` bytes; one larger than that stands alone."""
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in made:
        if shards[-1] and size + entry.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.nbytes
    return shards


def write_checkpoint(
    folder: str | os.PathLike,
    params: Any,
    template: Any,
    naming: Naming = PLAIN,
    *,
    safe_serialization: bool = True,
    max_shard_size: int | str = "5GB",
    progress: bool = True,
) -> list[str]:
    """Writes weights, and an index if there are several files, into an empty folder.

    Args:
        safe_serialization: safetensors under PyTorch names; else flax msgpack, in the names and
            layouts of old Flax checkpoints.

    Returns:
        The names of the files, the index last.

    Raises:
        CheckpointError: params that are not the model's, or a dtype the format does not have.
    """
    limit = parse_size(max_shard_size)
    made = entries(params, template, naming, TORCH if safe_serialization else FLAX)
    write = _write_safetensors if safe_serialization else _write_msgpack
    format = SAFETENSORS if safe_serialization else MSGPACK
    stem, ending = format.stem, format.ending
    known = safetensors_format.NAMES if safe_serialization else msgpack_format.DTYPES.values()
    for entry in made:
        if entry.dtype not in known:
            raise CheckpointError(f"{entry.name}: {ending} cannot hold dtype {entry.dtype}")
    shards = plan_shards(made, limit)
    total = sum(entry.nbytes for entry in made)
    weight_map: dict[str, str] = {}
    names = []
    with tqdm(total=total, unit="B", unit_scale=True, delay=1, disable=not progress) as bar:
        for i, shard in enumerate(shards, 1):
            number = f"-{i:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
            names.append(f"{stem}{number}.{ending}")
            with open(os.path.join(folder, names[-1]), "xb") as file:
                write(file, shard, bar)
                file.flush()
                os.fsync(file.fileno())
            weight_map |= {entry.name: names[-1] for entry in shard}
    if len(shards) > 1:
        names.append(f"{stem}.{ending}.index.json")
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        with open(os.path.join(folder, names[-1]), "x", encoding="utf-8") as file:
            file.write(json.dumps(index, indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return names


def _write_safetensors(file: BinaryIO, shard: list[Entry], bar: tqdm) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
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
    file.write(struct.pack("<Q", len(text)) + text)
    for entry in shard:
        file.write(_bytes(entry.read()))
        bar.update(entry.nbytes)


def _write_msgpack(file: BinaryIO, shard: list[Entry], bar: tqdm) -> None:
    def write(node: Any) -> None:
        if isinstance(node, Mapping):
            file.write(packer.pack_map_header(len(node)))
            for key, child in node.items():
                file.write(packer.pack(key))
                write(child)
        elif isinstance(node, Entry):
            for part in _msgpack_array(node, packer):
                file.write(part)
            bar.update(node.nbytes)
        else:
            file.write(packer.pack(node))

    packer = msgpack.Packer()
    write(unflatten({entry.name: entry for entry in shard}))


def _msgpack_array(entry: Entry, packer: msgpack.Packer) -> Iterator[bytes | memoryview]:
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


def _msgpack_extension(array: np.ndarray, packer: msgpack.Packer) -> Iterator[bytes | memoryview]:
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


def _natural(name: str) -> list[Any]:
    """Layer 10 after layer 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]
