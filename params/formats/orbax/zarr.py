"""zarr arrays, versions 2 and 3, in a folder or in an OCDBT database: what orbax keeps leaves in.

TensorStore reads and checks metadata and chunks, and opens nothing outside the folder. Checked here
is what it would believe: sizes that memory or the files cannot hold, and codecs that decode a chunk
whole, so that it could become more than the metadata declares.
"""

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np

from ...errors import CheckpointError, quoted
from ..source import Bounds, Tensor, too_large
from .pinned import PinnedFolder

if TYPE_CHECKING:
    import tensorstore as ts

DTYPES = tuple(
    jnp.dtype(name)
    for name in (
        "float64 float32 float16 bfloat16 float8_e3m4 float8_e4m3fn float8_e4m3fnuz "
        "float8_e4m3b11fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn complex64 "
        "complex128 int64 int32 int16 int8 int4 int2 uint64 uint32 uint16 uint8 bool"
    ).split()
)
_DRIVERS = {2: "zarr", 3: "zarr3"}
_CODECS = ("bytes", "transpose", "crc32c", "sharding_indexed", "zstd", "gzip", "zlib")
_SMALL_CHUNK = 1 << 20  # bytes; a larger one is no larger than what it is a part of, padded
_MOST_EXPANSION = 1 << 15  # zstd makes 128 KiB of four bytes; gzip does less
_DETAILS = re.compile(r" \[(?:tensorstore_spec|source locations)=")  # in TensorStore's errors
_SLACK = 64 << 20  # bytes; of a file, beside the data

# Parts of one chunk are read soon after one another; the cache saves decoding it for each of them.
# Its bytes, and the chunks that are being decoded, come on top of the loader's budget.
_CONTEXT = {
    "cache_pool": {"total_bytes_limit": 256 << 20},
    "data_copy_concurrency": {"limit": 8},
    "file_io_concurrency": {"limit": 16},
}


@dataclasses.dataclass(frozen=True)
class ZarrTensor(Tensor):
    """A tensor of which TensorStore reads the chunks that a part of it lies in.

    Attributes:
        store: TensorStore's.
        context: the cache and the threads that the tensors of a folder share.
        pinned: keeps the folder what it is.
    """

    store: "ts.TensorStore" = dataclasses.field(kw_only=True)
    pinned: PinnedFolder = dataclasses.field(kw_only=True)
    context: "ts.Context" = dataclasses.field(kw_only=True)
    divides: ClassVar[bool] = False

    @property
    def position(self) -> tuple[str, int]:
        return f"{self.pinned.folder}/{self.name}", 0

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        import tensorstore as ts

        try:
            part = self.store[tuple(slice(*bound) for bound in bounds)]
            ts.array(out, copy=False, write=True, context=self.context).write(part).result()
        except Exception as error:  # of many kinds, none of its own
            raise _failed(self.pinned, self.name, error) from error


def open_arrays(
    pinned: PinnedFolder,
    names: Mapping[str, str],
    *,
    ocdbt: bool,
    version: int,
    stored: int,
    largest: int,
) -> dict[str, Tensor]:
    """Opens a folder's arrays, side by side, as lazy tensors; no chunk is read.

    Args:
        names: tensor name -> name of the array in the folder.
        version: of zarr: 2 or 3.
        stored: bytes of all files in the folder; arrays that cannot come of them are refused.
        largest: bytes of the largest file; one that cannot come of the arrays is refused.

    Raises:
        CheckpointError: metadata that is missing, or not what zarr and JAX can hold.
    """
    import tensorstore as ts

    base = {"driver": "file", "path": os.path.join(pinned.path, "")}
    kvstore = {"driver": "ocdbt", "base": base} if ocdbt else base
    context = ts.Context(_CONTEXT)
    opening = {
        name: open_store(
            {**kvstore, "path": kvstore.get("path", "") + inside + "/"}, version, context
        )
        for name, inside in names.items()
    }
    tensors: dict[str, Tensor] = {}
    claimed = 0
    for name, future in opening.items():
        try:
            store = future.result()
        except Exception as error:  # of many kinds, none of its own
            raise _failed(pinned, name, error) from error
        dtype = check_store(f"{pinned.folder}: {quoted(name)}", store)
        claimed += math.prod(store.shape) * dtype.itemsize
        if claimed > stored * _MOST_EXPANSION:
            raise CheckpointError(
                f"{pinned.folder}: {quoted(name)}: {dtype} of shape {store.shape} cannot be in the "
                f"{stored} bytes of the folder"
            )
        tensors[name] = ZarrTensor(
            name, store.shape, dtype, store=store, context=context, pinned=pinned
        )
    if largest > claimed + claimed // 64 + _SLACK:
        raise CheckpointError(
            f"{pinned.folder}: a file of {largest} bytes, and all arrays take {claimed}: it holds "
            "none"
        )
    return tensors


def open_store(
    kvstore: Mapping[str, object], version: int, context: "ts.Context | None" = None
) -> "ts.Future[ts.TensorStore]":
    """Returns the future of an array, in which a chunk that is missing is an error."""
    import tensorstore as ts

    spec = {
        "driver": _DRIVERS[version],
        "kvstore": dict(kvstore),
        "recheck_cached_metadata": False,  # what was checked is not read again
        "recheck_cached_data": False,
        "fill_missing_data_reads": False,
    }
    return ts.open(spec, open=True, read=True, context=context)


def check_store(location: str, store: Any) -> np.dtype:
    """Checks what TensorStore does not -> the array's dtype."""
    dtype, shape = store.dtype.numpy_dtype, store.shape
    if dtype not in DTYPES:
        raise CheckpointError(f"{location}: dtype {quoted(store.dtype.name)} cannot be held by JAX")
    if too_large(shape, dtype):
        raise CheckpointError(f"{location}: shape {quoted(shape)} is too large")
    chunk_shape = store.chunk_layout.write_chunk.shape if shape else ()
    size, chunk = (math.prod(sizes) * dtype.itemsize for sizes in (shape, chunk_shape))
    if chunk > max(_SMALL_CHUNK, 2 * size):
        raise CheckpointError(f"{location}: a chunk of {chunk} bytes in an array of {size}")
    codecs = [*_codec_names(store.codec.to_json())]
    if codecs.count("sharding_indexed") > 1 or not set(codecs) <= set(_CODECS):
        raise CheckpointError(
            f"{location}: compressor or codecs {', '.join(codecs)}; known: {', '.join(_CODECS)}"
        )
    return dtype


def _codec_names(spec: object) -> Iterator[str]:
    """Lists the codecs in the JSON of a CodecSpec, version 2 or 3, those of shards included."""
    if isinstance(spec, dict):
        yield from (spec[key] for key in ("id", "name") if key in spec)
        spec = list(spec.values())
    if isinstance(spec, list):
        for part in spec:
            yield from _codec_names(part)


def _failed(pinned: PinnedFolder, name: str, error: Exception) -> CheckpointError:
    message = _DETAILS.split(str(error).replace(pinned.path, pinned.folder))[0]
    message = repr(message)[1:-1]
    return CheckpointError(f"{pinned.folder}: {quoted(name)} cannot be read: {message[:600]}")
