"""Builders of checkpoint files, byte by byte, for tests of readers and writers."""

import json
import math
import struct
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from flaxmodels import params as fp
from flaxmodels.params.errors import printable
from flaxmodels.params.formats.files import File, Span
from flaxmodels.params.formats.msgpack import DTYPES as MSGPACK_DTYPES
from flaxmodels.params.formats.safetensors import DTYPES as SAFETENSORS_DTYPES

# The same examples every run; randomise by hand with `settings(derandomize=False)`.
quick = settings(max_examples=60, deadline=None, derandomize=True)


def refused(
    path: Path, message: str, *names: str | Path, read: bool = False, within: float = 2
) -> None:
    """Opening is an error, or reading everything if `read`, `within` seconds of work, that names
    the path and `names`, is not long, and has nothing in it that a terminal would act on."""
    start = time.process_time()
    with pytest.raises(fp.CheckpointError, match=message) as caught:
        for tensor in fp.open_checkpoint(path).tensors.values():
            if read:
                tensor.read()
    assert time.process_time() - start < within
    said = str(caught.value)
    assert all(printable(name) in said for name in (path, *names)), said
    assert not {"\x1b", "\u202e"} & set(said) and len(said) < 2000


def safetensors(header, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header (JSON or raw bytes), true or lying about its length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    """The header's entry of a tensor; by default two floats."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def extension(shape, dtype, data: bytes, code: int = 1) -> msgpack.ExtType:
    """An array as flax puts it into msgpack."""
    return msgpack.ExtType(code, pack((shape, dtype, data)))


def pack(value) -> bytes:
    return msgpack.packb(value, use_bin_type=True)


def put(folder: Path, name: str, content: bytes | str) -> Path:
    """Writes a file -> its path."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def put_index(folder: Path, weight_map, name="model.safetensors.index.json") -> Path:
    return put(folder, name, json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], metadata=None) -> Path:
    """A good file with these arrays, in order."""
    names = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}
    header = {} if metadata is None else {"__metadata__": metadata}
    position = 0
    for name, array in tensors.items():
        offsets = position, position + array.nbytes
        header[name] = entry(names[array.dtype], array.shape, offsets)
        position = offsets[1]
    return put(path.parent, path.name, safetensors(header) + b"".join(map(raw, tensors.values())))


def listed(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a golden's {path: [dtype, shape, bytes in hexadecimal]}."""
    return {
        name: np.frombuffer(bytes.fromhex(data), jnp.dtype(dtype)).reshape(shape)
        for name, (dtype, shape, data) in json.loads(path.read_text()).items()
    }


def raw(array) -> bytes:
    """The bytes of an array in C order."""
    return np.asarray(array).tobytes()


def same(a, b) -> bool:
    """Equal to the last bit, NaN payloads included."""
    return a.shape == b.shape and a.dtype == b.dtype and raw(a) == raw(b)


def random_array(seed: int, shape, dtype) -> np.ndarray:
    """Any bits, so also infinities, NaNs, subnormals; booleans are 0 or 1."""
    dtype = np.dtype(dtype)
    data = np.random.default_rng(seed).bytes(math.prod(shape) * dtype.itemsize)
    if dtype == np.bool_:
        return np.asarray(np.frombuffer(data, np.uint8).reshape(shape) % 2 == 1)
    return np.frombuffer(data, dtype).reshape(shape)


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


def arrays(dtypes) -> st.SearchStrategy:
    return st.builds(random_array, st.integers(0, 2**32 - 1), shapes, st.sampled_from(dtypes))


safetensors_arrays = arrays(list(SAFETENSORS_DTYPES.values()))
msgpack_arrays = arrays(list(MSGPACK_DTYPES.values()))


def spans_of(file: File, offset: int, lengths) -> tuple[Span, ...]:
    made = []
    for length in lengths:
        made.append(Span(file, offset, length))
        offset += length
    return tuple(made)


def template(tensors) -> dict:
    """The abstract tree of a flat {path: array or shape}."""
    flat = {
        path: jax.ShapeDtypeStruct(getattr(leaf, "shape", leaf), jnp.float32)
        for path, leaf in tensors.items()
    }
    return fp.unflatten(flat)
