"""zarr arrays, versions 2 and 3, in a folder or in an OCDBT database: what orbax keeps leaves in.

An array's metadata is checked here; TensorStore then gets what was checked, not the file again,
and reads the chunks. It decodes no more of a chunk than the metadata declares, and opens nothing
outside the folder.
"""

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Mapping
from typing import Any, TypeGuard

import jax.numpy as jnp
import numpy as np

from ... import strict_json
from ...errors import CheckpointError, quoted
from ..source import Bounds, Tensor, too_large
from .pinned import PinnedFolder

DTYPES = tuple(
    jnp.dtype(name)
    for name in (
        "float64 float32 float16 bfloat16 float8_e3m4 float8_e4m3fn float8_e4m3fnuz "
        "float8_e4m3b11fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn complex64 "
        "complex128 int64 int32 int16 int8 int4 int2 uint64 uint32 uint16 uint8 bool"
    ).split()
)
_DTYPES = {
    2: {d.str if d.isbuiltin == 1 else d.name: d for d in DTYPES},
    3: {d.name: d for d in DTYPES},
}
_METADATA_NAME = {2: ".zarray", 3: "zarr.json"}
_DRIVER = {2: "zarr", 3: "zarr3"}
_SMALL_CHUNK = 1 << 20  # bytes; a larger one is no larger than what it is a part of, padded
_LARGEST_METADATA = 1 << 20
_MOST_EXPANSION = 1 << 15  # zstd makes 128 KiB of four bytes; gzip does less
_SLACK = 64 << 20  # bytes; of a file, beside the data
_COMPRESSORS = ("zstd", "gzip", "zlib")

# Slabs of one chunk come soon after one another; the cache saves decoding it for each of them. Its
# bytes, and the chunks that are being decoded, come on top of the loader's budget.
_CONTEXT = {
    "cache_pool": {"total_bytes_limit": 256 << 20},
    "data_copy_concurrency": {"limit": 8},
    "file_io_concurrency": {"limit": 16},
}


@dataclasses.dataclass(frozen=True)
class ZarrTensor(Tensor):
    """A tensor of which TensorStore reads the chunks that a part of it lies in.

    Attributes:
        where: the folder, for errors.
        spec: TensorStore's, with the metadata.
        context: the cache and the threads that the tensors of a folder share.
        pinned: keeps the folder what it is.
    """

    where: str = ""
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    context: Any = None
    pinned: PinnedFolder | None = None

    @property
    def position(self) -> tuple[str, int]:
        return f"{self.where}/{self.name}", 0

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        import tensorstore as ts

        try:
            part = self._store[tuple(slice(*bound) for bound in bounds)]
            ts.array(out, copy=False, write=True, context=self.context).write(part).result()
        except Exception as error:  # of many kinds, none of its own
            raise _failed(self.where, self.name, error, self.pinned) from error

    @functools.cached_property
    def _store(self) -> Any:
        import tensorstore as ts

        return ts.open(dict(self.spec), read=True, context=self.context).result()


def open_arrays(
    pinned: PinnedFolder,
    names: Mapping[str, str],
    *,
    ocdbt: bool,
    version: int,
    stored: int,
    largest: int,
) -> dict[str, Tensor]:
    """Lazy tensors of a folder's arrays; reads and checks their metadata only.

    Args:
        pinned: the folder.
        names: tensor name -> name of the array in the folder.
        version: of zarr: 2 or 3.
        stored: bytes of all files in the folder; arrays that cannot come of them are refused.
        largest: bytes of the largest file; one that cannot come of the arrays is refused.

    Raises:
        CheckpointError: metadata that is missing, or not what zarr and JAX can hold.
    """
    import tensorstore as ts

    folder = pinned.folder
    base = {"driver": "file", "path": os.path.join(pinned.path, "")}
    kvstore = {"driver": "ocdbt", "base": base} if ocdbt else base
    context = ts.Context(_CONTEXT)
    tensors: dict[str, Tensor] = {}
    claimed = 0
    for name, raw in _read_metadata(pinned, kvstore, names, version, context).items():
        where = f"{folder}: {quoted(name)}"
        shape, dtype, metadata = _checked(where, raw, version)
        claimed += math.prod(shape) * dtype.itemsize
        if claimed > stored * _MOST_EXPANSION:
            raise CheckpointError(
                f"{where}: {dtype} of shape {shape} cannot be in the {stored} bytes of the folder"
            )
        spec = {
            "driver": _DRIVER[version],
            "kvstore": {**kvstore, "path": kvstore.get("path", "") + names[name] + "/"},
            "metadata": metadata,
            "open": True,
            "assume_metadata": True,
            "recheck_cached_metadata": False,
            "recheck_cached_data": False,
            "fill_missing_data_reads": False,
        }
        tensors[name] = ZarrTensor(name, shape, dtype, (), folder, spec, context, pinned)
    if largest > claimed + claimed // 64 + _SLACK:
        raise CheckpointError(
            f"{folder}: a file of {largest} bytes, and all arrays take {claimed}: it holds none"
        )
    return tensors


def _read_metadata(
    pinned: PinnedFolder, kvstore: Any, names: Mapping[str, str], version: int, context: Any
) -> dict[str, bytes]:
    """{tensor name: its metadata}, read side by side."""
    import tensorstore as ts

    name, folder = "", pinned.folder
    found: dict[str, bytes] = {}
    try:
        store = ts.KvStore.open(kvstore, context=context).result()
        reads = {n: store.read(f"{at}/{_METADATA_NAME[version]}") for n, at in names.items()}
        for name, read in reads.items():
            result = read.result()
            if result.state != "value":
                raise CheckpointError(
                    f"{folder}: {quoted(name)} is in the tree, and its array is not there: no "
                    f"{quoted(f'{names[name]}/{_METADATA_NAME[version]}')}"
                )
            found[name] = result.value
    except CheckpointError:
        raise
    except Exception as error:
        raise _failed(folder, name, error, pinned) from error
    return found


def _failed(
    folder: str, name: str, error: Exception, pinned: PinnedFolder | None
) -> CheckpointError:
    where = f": {quoted(name)}" if name else ""
    said = repr(pinned.said(error) if pinned else str(error))[1:-1]
    return CheckpointError(f"{folder}{where} cannot be read: {said[:400]}")


def _checked(
    where: str, raw: bytes, version: int
) -> tuple[tuple[int, ...], np.dtype, dict[str, Any]]:
    """(shape, dtype, the metadata that TensorStore may see) of an array's metadata."""
    if len(raw) > _LARGEST_METADATA:
        raise CheckpointError(f"{where}: {len(raw)} bytes of metadata")
    try:
        metadata = strict_json.loads(raw)
    except ValueError as error:
        raise CheckpointError(f"{where}: metadata is not valid: {error}") from None
    if not isinstance(metadata, dict) or metadata.get("zarr_format") != version:
        raise CheckpointError(f"{where}: metadata is not that of zarr {version}")
    check = _check_2 if version == 2 else _check_3
    try:
        dtype, chunks, checked = check(metadata)
    except _Refused as error:
        raise CheckpointError(f"{where}: {error}") from None
    shape = metadata.get("shape")
    if not _sizes(shape) or not _sizes(chunks) or len(shape) != len(chunks) or 0 in chunks:
        raise CheckpointError(
            f"{where}: shape {quoted(shape)} and chunks {quoted(chunks)} must be as many sizes"
        )
    if too_large(shape, dtype) or too_large(chunks, dtype):
        raise CheckpointError(f"{where}: shape {quoted(shape)} is too large")
    size, chunk = (math.prod(sizes) * dtype.itemsize for sizes in (shape, chunks))
    if chunk > max(_SMALL_CHUNK, 2 * size):
        raise CheckpointError(f"{where}: a chunk of {chunk} bytes in an array of {size}")
    return tuple(shape), dtype, checked | {"shape": shape, "zarr_format": version}


class _Refused(Exception):
    """What metadata says that is not supported."""


def _sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _dtype(name: Any, version: int) -> np.dtype:
    known = _DTYPES[version]
    if not isinstance(name, str) or name not in known:
        raise _Refused(f"dtype {quoted(name)} cannot be held by JAX; known: {', '.join(known)}")
    return known[name]


def _one_of(metadata: Mapping[str, Any], key: str, values: tuple[Any, ...]) -> Any:
    """The value of an optional key, by default the first of `values`."""
    value = metadata.get(key, values[0])
    if not any(type(value) is type(known) and value == known for known in values):
        raise _Refused(f"{key} {quoted(value)}, expected one of {values}")
    return value


def _check_2(metadata: dict[str, Any]) -> tuple[np.dtype, Any, dict[str, Any]]:
    compressor = metadata.get("compressor")
    if compressor is not None:
        _level(compressor, compressor.get("id") if isinstance(compressor, dict) else None)
    checked = {
        "dtype": metadata.get("dtype"),
        "chunks": metadata.get("chunks"),
        "compressor": compressor,
        "order": _one_of(metadata, "order", ("C", "F")),
        "filters": _one_of(metadata, "filters", (None,)),
        "dimension_separator": _one_of(metadata, "dimension_separator", (".", "/")),
        "fill_value": None,  # data that is missing is an error
    }
    return _dtype(checked["dtype"], 2), checked["chunks"], checked


def _level(options: Any, name: Any) -> None:
    """Refuses a compressor but the ones TensorStore decodes piece by piece."""
    level = options.get("level", 1) if isinstance(options, dict) else None
    if name not in _COMPRESSORS or type(level) is not int or not -131072 <= level <= 22:
        raise _Refused(f"compressor {quoted(options or name)}; known: {', '.join(_COMPRESSORS)}")


def _check_3(metadata: dict[str, Any]) -> tuple[np.dtype, Any, dict[str, Any]]:
    grid, keys = _named(metadata.get("chunk_grid")), _named(metadata.get("chunk_key_encoding"))
    if grid[0] != "regular" or keys[0] not in ("default", "v2"):
        raise _Refused(f"chunk grid {quoted(grid[0])} with keys {quoted(keys[0])}")
    _one_of(keys[1], "separator", ("/", "."))
    dtype, chunks = _dtype(metadata.get("data_type"), 3), grid[1].get("chunk_shape")
    checked = {
        "node_type": _one_of(metadata, "node_type", ("array",)),
        "data_type": metadata["data_type"],
        "chunk_grid": metadata["chunk_grid"],
        "chunk_key_encoding": metadata["chunk_key_encoding"],
        "codecs": _codecs(metadata.get("codecs"), chunks),
        # Of no consequence: data that is missing is an error.
        "fill_value": [0.0, 0.0] if dtype.kind == "c" else False if dtype.kind == "b" else 0,
    }
    return dtype, chunks, checked


def _named(value: Any) -> tuple[Any, dict[str, Any]]:
    """(name, configuration) of an extension point of zarr 3."""
    configuration = value.get("configuration", {}) if isinstance(value, dict) else None
    if not isinstance(configuration, dict):
        raise _Refused(f"{quoted(value)} where a name and its configuration belong")
    return value.get("name"), configuration


def _codecs(codecs: Any, chunks: Any, *, sharding: bool = True) -> Any:
    """`codecs`, if they are such as orbax uses."""
    if not isinstance(codecs, list) or not 0 < len(codecs) <= 4:
        raise _Refused(f"codecs {quoted(codecs)}")
    for codec in codecs:
        name, options = _named(codec)
        if name == "bytes":
            _one_of(options, "endian", ("little",))
        elif name == "sharding_indexed" and sharding:
            _inner_chunks(options.get("chunk_shape"), chunks)
            _codecs(options.get("codecs"), chunks, sharding=False)
            _codecs(options.get("index_codecs"), chunks, sharding=False)
        elif name not in ("crc32c", "transpose"):
            _level(options, name)
    return codecs


def _inner_chunks(inner: Any, chunks: Any) -> None:
    pairs = itertools.zip_longest(inner, chunks) if _sizes(inner) and _sizes(chunks) else [(0, 0)]
    if not all(small and big and big % small == 0 for small, big in pairs):
        raise _Refused(f"chunks {quoted(inner)} in a shard of {quoted(chunks)}")
