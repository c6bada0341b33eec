"""safetensors: 8 bytes of header length, a JSON header, the tensors' bytes without gaps.

The format's own description: https://github.com/huggingface/safetensors#format. The header is
checked completely before any tensor is read; names are unique, which the reference reader
does not check.
"""

import struct

import jax.numpy as jnp
import numpy as np

from .. import strict_json
from ..errors import CheckpointError, quoted
from .files import File
from .source import Tensor, check_cover, tensor_at

MAX_HEADER = 100_000_000
_LONGEST_NAME = 4096
_MOST = 1 << 64  # of a size or offset; Python does not print numbers of thousands of digits

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": jnp.dtype(jnp.bfloat16),
    "F8_E4M3": jnp.dtype(jnp.float8_e4m3fn),
    "F8_E5M2": jnp.dtype(jnp.float8_e5m2),
    "F8_E8M0": jnp.dtype(jnp.float8_e8m0fnu),
    "F8_E4M3FNUZ": jnp.dtype(jnp.float8_e4m3fnuz),
    "F8_E5M2FNUZ": jnp.dtype(jnp.float8_e5m2fnuz),
    "C64": np.dtype(np.complex64),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_header(file: File) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads the header of a file -> ({name: lazy tensor}, metadata).

    Raises:
        CheckpointError: anything in the header that is not as the format says.
    """
    if file.size < 8:
        raise CheckpointError(f"{file.path}: {file.size} bytes is too small for safetensors")
    file.reject_lookalikes()
    (length,) = struct.unpack("<Q", file.read(0, 8))
    if length > min(MAX_HEADER, file.size - 8) or length < 2:
        raise CheckpointError(
            f"{file.path}: not safetensors: header length {length} in a file of {file.size} bytes "
            f"(at most {MAX_HEADER})"
        )
    raw = file.read(8, length)
    if raw.lstrip()[:1] != b"{":
        raise CheckpointError(f"{file.path}: not safetensors: header does not start with '{{'")
    try:
        header = strict_json.loads(raw)
    except ValueError as error:
        raise CheckpointError(f"{file.path}: header is not valid: {error}") from None
    metadata = header.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError(f"{file.path}: __metadata__ must map strings to strings")
    start = 8 + length
    tensors = {name: _tensor(file, name, entry, start) for name, entry in header.items()}
    end = check_cover(tensors.values(), start)
    if end != file.size:
        raise CheckpointError(
            f"{file.path}: tensors end at byte {end}, the file has {file.size}: it is cut short or "
            "holds something else"
        )
    return tensors, metadata


def _tensor(file: File, name: str, entry: object, start: int) -> Tensor:
    location = f"{file.path}: tensor {quoted(name)}"
    if len(name) > _LONGEST_NAME:
        raise CheckpointError(f"{location}: a name has at most {_LONGEST_NAME} characters")
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise CheckpointError(f"{location}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(
            f"{location}: dtype {quoted(dtype)} cannot be held by JAX; known: {', '.join(DTYPES)}"
        )
    if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2:
        raise CheckpointError(
            f"{location}: shape {quoted(shape)} and data_offsets {quoted(offsets)} must be sizes"
        )
    begin, end = offsets
    return tensor_at(file, name, shape, DTYPES[dtype], start + begin, end - begin)


def _sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < _MOST for v in values)
