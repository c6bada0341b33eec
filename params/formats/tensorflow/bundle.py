"""TensorFlow checkpoints: an index, `model.ckpt.index`, beside shards of raw bytes.

The index is a table from a variable's name to a `BundleEntryProto` (tensorflow/core/protobuf/
tensor_bundle.proto): dtype, shape, where its bytes are, and their CRC-32C. The empty name holds a
header. A partitioned variable has an entry for the whole, which lists its slices, and one for each
slice under a name that starts with a zero byte.

A checkpoint of objects (TensorFlow 2) has paths of attributes for names. Its object graph says what
each variable is called, and that name is used here, except for those of an optimizer.
"""

import collections
import dataclasses
import os
import re
from typing import ClassVar, TypeVar

import jax.numpy as jnp
import numpy as np

from ...errors import CheckpointError, quoted
from ..files import File
from ..protobuf import BYTES, FIXED32, VARINT, Messages, signed, varint
from ..source import Bounds, Tensor, tensor_at, too_large
from ..store import LOCAL, Store
from .checksum import masked_crc32c
from .slice_keys import Extents, slice_key
from .sstable import read_table

T = TypeVar("T")

MAX_INDEX = 64 << 20
_MAX_FIELDS = 1_000_000
_GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_STATE = re.compile(r"(^|/)optimizer/|/\.OPTIMIZER_SLOT/")  # of keys that keep their names
_STRING = 7
_NOTHING = memoryview(b"")
_VERSION = 1  # of the format; an index says which a reader must understand

DTYPES = {  # numbers of tensorflow/core/framework/types.proto
    number: jnp.dtype(name)
    for number, name in {
        1: "float32",
        2: "float64",
        3: "int32",
        4: "uint8",
        5: "int16",
        6: "int8",
        8: "complex64",
        9: "int64",
        10: "bool",
        14: "bfloat16",
        17: "uint16",
        19: "float16",
        22: "uint32",
        23: "uint64",
        24: "float8_e5m2",
        25: "float8_e4m3fn",
    }.items()
}


@dataclasses.dataclass(frozen=True)
class CheckedTensor(Tensor):
    """A tensor whose bytes are compared with their checksums when it is read whole. A part, as is
    read of what is sharded or too large for the host's memory, cannot be.

    Attributes:
        checksums: the masked CRC-32C of each span.
    """

    checksums: tuple[int, ...] = ()
    divides: ClassVar[bool] = False

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        super().fill(out, bounds)
        if out.shape != self.shape:
            return
        rest = out.reshape(-1).view(np.uint8)
        for span, stored in zip(self.spans, self.checksums, strict=True):
            if masked_crc32c(rest[: span.length]) != stored:
                raise CheckpointError(
                    f"{span.file.path}: tensor {quoted(self.name)}: the checksum of its "
                    f"{span.length} bytes at byte {span.offset} is wrong: the file is damaged"
                )
            rest = rest[span.length :]


def read_index(file: File, path: str | None = None, store: Store = LOCAL) -> dict[str, Tensor]:
    """Reads an index -> {name: lazy tensor} of every variable; its shards lie beside it.

    Args:
        path: of the index in its store, if that is not what the file is called.

    Raises:
        CheckpointError: anything that is not as the format says, a shard that is missing, or a
            variable that JAX cannot hold.
    """
    file.reject_lookalikes()
    if file.size > MAX_INDEX:
        raise CheckpointError(f"{file.path}: {file.size} bytes; an index has at most {MAX_INDEX}")
    try:
        bundle = _Bundle(file, path or file.path, store)
        names = bundle.names()
    except ValueError as error:
        raise CheckpointError(f"{file.path}: not a whole TensorFlow checkpoint: {error}") from None
    return {name: bundle.tensor(key, name) for key, name in names.items()}


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A `BundleEntryProto`."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: tuple[Extents, ...]


class _Bundle:
    """An index, and its shards once they are asked for."""

    def __init__(self, file: File, path: str, store: Store):
        self.file, self.path, self.store = file, path, store
        self.entries = read_table(memoryview(file.read(0, file.size)))
        if b"" not in self.entries:
            raise ValueError("no header")
        self.messages = Messages(_MAX_FIELDS)
        fields = self.messages.fields
        header = fields(self.entries[b""], {1: VARINT, 2: VARINT, 3: BYTES})
        version = fields(_last(header[3], _NOTHING), {2: VARINT})
        self.num_shards = signed(_last(header[1], 0))
        if self.num_shards < 1:
            raise ValueError(f"the header claims {self.num_shards} shards")
        if _last(header[2], 0):
            raise ValueError("its numbers are big endian")
        if _last(version[2], 0) > _VERSION:
            raise ValueError(f"it needs a reader of version {version[2][-1]}, not {_VERSION}")
        self._shards: dict[int, File] = {}

    def names(self) -> dict[bytes, str]:
        """Lists all variables -> {key: name}; the rest of what Python objects keep is left out."""
        keys = [key for key in self.entries if key and key[0]]
        called = self._called() if _GRAPH in keys else {}
        uses = collections.Counter(called.values())
        names = {}
        for key in keys:
            name = key.decode()
            if key != _GRAPH and ("/.ATTRIBUTES/" not in name or name.endswith(_VARIABLE)):
                given = called.get(name, "")
                names[key] = given if uses[given] == 1 else name
        if len(set(names.values())) != len(names):
            raise ValueError("two variables have one name")
        return names

    def _called(self) -> dict[str, str]:
        """Returns {key: what the variable is called}, out of a `TrackableObjectGraph`."""
        entry, fields = self._entry(_GRAPH), self.messages.fields
        if entry.dtype != _STRING or entry.size > MAX_INDEX:
            raise ValueError(f"an object graph of {entry.size} bytes, dtype {entry.dtype}")
        graph = self._tensor(_GRAPH.decode(), np.dtype(np.uint8), entry, shape=(entry.size,))
        data = graph.read().data
        length, start = varint(data, 0)
        if start + 4 + length != len(data):  # a checksum of the length, then the text
            raise ValueError(f"an object graph of {length} bytes in {len(data)}")
        called = {}
        for node in fields(data[start + 4 :], {1: BYTES})[1]:
            for attribute in fields(node, {2: BYTES})[2]:
                texts = fields(attribute, {2: BYTES, 3: BYTES})
                name, key = (bytes(_last(texts[number], _NOTHING)).decode() for number in (2, 3))
                if name and not _STATE.search(key):
                    called[key] = name
        return called

    def tensor(self, key: bytes, name: str) -> Tensor:
        """Returns the variable of this key; raises `CheckpointError` for anything about it that is
        not as the format says."""
        try:
            whole = self._entry(key)
            if whole.dtype not in DTYPES:
                known = ", ".join(map(str, DTYPES.values()))
                raise ValueError(f"dtype {whole.dtype} cannot be held by JAX; known: {known}")
            dtype = DTYPES[whole.dtype]
            if min(whole.shape, default=0) < 0 or too_large(whole.shape, dtype):
                raise ValueError(f"shape {quoted(whole.shape)} is negative or too large")
            parts = self._slices(key, whole) if whole.slices else [whole]
            found = [self._tensor(name, dtype, part, part.shape) for part in parts]
        except ValueError as error:
            raise CheckpointError(f"{self.file.path}: tensor {quoted(name)}: {error}") from None
        spans = tuple(span for tensor in found for span in tensor.spans)
        checksums = tuple(part.checksum for part in parts)
        return CheckedTensor(name, whole.shape, dtype, spans, checksums)

    def _slices(self, key: bytes, whole: _Entry) -> list[_Entry]:
        """Returns the entries of a variable's slices, which must be runs of rows that fill it."""
        parts, row = [], 0
        for extents in sorted(whole.slices, key=lambda extents: [start for start, _ in extents]):
            shape = tuple(
                size - start if length is None else length
                for (start, length), size in zip(extents, whole.shape, strict=False)
            )
            starts = [start for start, _ in extents]
            inner = [0] * (len(whole.shape) - 1)
            if not shape or starts != [row, *inner] or shape[1:] != whole.shape[1:]:
                raise ValueError(f"slice {quoted(extents)} of {whole.shape} is no run of rows")
            part = self._entry(slice_key(key, extents))
            if (part.dtype, part.shape, part.slices) != (whole.dtype, shape, ()):
                raise ValueError(f"slice {quoted(extents)} is not there, in shape {shape}")
            parts.append(part)
            row += shape[0]
        if row != whole.shape[0]:
            raise ValueError(f"its slices end at row {row} of shape {whole.shape}")
        return parts

    def _entry(self, key: bytes) -> _Entry:
        """Decodes the entry of a key; an empty one if there is none."""
        fields = self.messages.fields
        kinds = {1: VARINT, 2: BYTES, 3: VARINT, 4: VARINT, 5: VARINT, 6: FIXED32, 7: BYTES}
        found = fields(self.entries.get(key, _NOTHING), kinds)
        shape = fields(_last(found[2], _NOTHING), {2: BYTES, 3: VARINT})
        if _last(shape[3], 0):
            raise ValueError("its rank is unknown")
        sizes = [_last(fields(size, {1: VARINT})[1], 0) for size in shape[2]]
        shard, offset, size = (signed(_last(found[number], 0)) for number in (3, 4, 5))
        return _Entry(
            dtype=_last(found[1], 0),
            shape=tuple(map(signed, sizes)),
            shard=shard,
            offset=offset,
            size=size,
            checksum=_last(found[6], 0),
            slices=tuple(map(self._extents, found[7])),
        )

    def _extents(self, data: memoryview) -> Extents:
        fields = self.messages.fields
        found = (fields(one, {1: VARINT, 2: VARINT}) for one in fields(data, {1: BYTES})[1])
        return tuple(
            (signed(_last(one[1], 0)), signed(one[2][-1]) if one[2] else None) for one in found
        )

    def _tensor(self, name: str, dtype: np.dtype, entry: _Entry, shape: tuple[int, ...]) -> Tensor:
        """Returns the bytes of an entry, in a shard that has them."""
        if not 0 <= entry.shard < self.num_shards:
            raise ValueError(f"it is in shard {entry.shard} of {self.num_shards}")
        file = self._shards.get(entry.shard) or self._open(name, entry.shard)
        return tensor_at(file, name, shape, dtype, entry.offset, entry.size)

    def _open(self, name: str, shard: int) -> File:
        prefix = self.path.removesuffix(".index")
        path = f"{prefix}.data-{shard:05d}-of-{self.num_shards:05d}"
        if not self.store.exists(path):
            raise ValueError(f"{os.path.basename(path)} is missing; it holds {quoted(name)}")
        self._shards[shard] = self.store.open(path)
        return self._shards[shard]


def _last(values: list[T], default: T) -> T:
    """Returns the value of a field that is not repeated: the last one counts."""
    return values[-1] if values else default
