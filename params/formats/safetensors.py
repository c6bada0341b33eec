"""safetensors: 8 bytes of header length, a JSON header, the tensors' bytes without gaps.

The format's own description: https://github.com/huggingface/safetensors#format. The header is
checked completely before any tensor is read; names are unique, which the reference reader
does not check.
"""

import math
import struct

import jax.numpy as jnp
import numpy as np

from .. import strict_json
from ..errors import CheckpointError, quoted
from ..strict_json import Json
from .files import File, Span
from .source import Tensor, too_large

MAX_HEADER = 100_000_000
_LONGEST_NAME = 4096

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
    header = _decode(file, file.read(8, length))
    metadata = _metadata(file, header.pop("__metadata__", None))
    start = 8 + length
    tensors = {name: _tensor(file, name, entry, start) for name, entry in header.items()}
    _check_cover(file, tensors, start)
    return tensors, metadata


def _decode(file: File, raw: bytes) -> dict[str, Json]:
    if raw.lstrip()[:1] != b"{":
        raise CheckpointError(f"{file.path}: not safetensors: header does not start with '{{'")

    try:
        return strict_json.loads(raw)
    except ValueError as error:
        raise CheckpointError(f"{file.path}: header is not valid: {error}") from None


def _metadata(file: File, metadata: object) -> dict[str, str]:
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError(f"{file.path}: __metadata__ must map strings to strings")
    return metadata


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
    if not begin <= end <= file.size - start:
        raise CheckpointError(
            f"{location}: data_offsets {offsets} do not lie in the {file.size - start} bytes of "
            "data that the file holds"
        )
    if too_large(shape, DTYPES[dtype]):
        raise CheckpointError(f"{location}: shape {quoted(shape)} is too large")
    expected = math.prod(shape) * DTYPES[dtype].itemsize
    if expected != end - begin:
        raise CheckpointError(
            f"{location}: {dtype} of shape {shape} takes {expected} bytes, the file gives it "
            f"{end - begin}"
        )
    span = Span(file, start + begin, end - begin)
    return Tensor(name, tuple(shape), DTYPES[dtype], (span,))


def _sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _check_cover(file: File, tensors: dict[str, Tensor], start: int) -> None:
    """Refuses tensors that overlap, leave a hole, or do not end where the file does."""
    position = start
    spans = [(tensor.spans[0], tensor.name) for tensor in tensors.values()]
    for span, name in sorted(spans, key=lambda item: (item[0].offset, item[0].length)):
        if span.offset != position:
            problem = "overlaps the one before it" if span.offset < position else "leaves a hole"
            raise CheckpointError(
                f"{file.path}: tensor {quoted(name)} starts at byte {span.offset - start}, "
                f"expected {position - start}: it {problem}"
            )
        position += span.length
    if position != file.size:
        raise CheckpointError(
            f"{file.path}: tensors end at byte {position}, the file has {file.size}: it is cut "
            "short or holds something else"
        )
