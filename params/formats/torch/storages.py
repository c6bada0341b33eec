"""Storages: the runs of numbers that tensors of a pickle are views of."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ...errors import CheckpointError, quoted
from ..files import File
from .pickles import Machine
from .terms import Global, Persistent

DTYPES = {
    f"torch.{name}": jnp.dtype(getattr(jnp, name))
    for name in (
        "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz "
        "float8_e5m2fnuz float8_e8m0fnu complex64 int64 int32 int16 int8 uint64 uint32 uint16 uint8"
    ).split()
} | {"torch.bool": np.dtype(np.bool_)}
STORAGES = {
    "torch.DoubleStorage": "torch.float64",
    "torch.FloatStorage": "torch.float32",
    "torch.HalfStorage": "torch.float16",
    "torch.BFloat16Storage": "torch.bfloat16",
    "torch.ComplexFloatStorage": "torch.complex64",
    "torch.LongStorage": "torch.int64",
    "torch.IntStorage": "torch.int32",
    "torch.ShortStorage": "torch.int16",
    "torch.CharStorage": "torch.int8",
    "torch.ByteStorage": "torch.uint8",
    "torch.BoolStorage": "torch.bool",
    "torch.storage.UntypedStorage": "torch.uint8",
}
_UNHELD = {  # storages of what JAX cannot hold -> bytes of an element
    "torch.ComplexDoubleStorage": 16,
    "torch.QInt8Storage": 1,
    "torch.QUInt8Storage": 1,
    "torch.QUInt4x2Storage": 1,
    "torch.QUInt2x4Storage": 1,
    "torch.QInt32Storage": 4,
}
ITEMSIZES = {kind: DTYPES[name].itemsize for kind, name in STORAGES.items()} | _UNHELD


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers that tensors are views of.

    Attributes:
        kind: name of its class.
        size: number of its elements.
    """

    key: str
    kind: str
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * ITEMSIZES[self.kind]


def storages(file: File, machine: Machine) -> dict[str, Storage]:
    """Lists the storages that the pickle refers to -> {key: storage}."""
    found: dict[str, Storage] = {}
    for term in machine.persistent:
        storage, _ = decoded(file.path, term)
        if found.setdefault(storage.key, storage) != storage:
            raise CheckpointError(
                f"{file.path}: storage {quoted(storage.key)} is {found[storage.key].size} of "
                f"{found[storage.key].kind} and {storage.size} of {storage.kind}"
            )
    return found


def decoded(location: str, term: object) -> tuple[Storage, tuple[int, int] | None]:
    """Decodes a storage -> (storage, (offset, size) of a view of it, None for all of it)."""
    match term:
        case Persistent(("storage", Global(kind), str(key), _, int(size), *view)):
            pass
        case _:
            raise CheckpointError(f"{location}: an object stored apart that is no storage")
    location = f"{location}: storage {quoted(key)}"
    if kind not in ITEMSIZES or size < 0:
        raise CheckpointError(
            f"{location}: {size} elements of {kind}; known: {', '.join(STORAGES)}"
        )
    match view:
        case [] | [None]:
            return Storage(key, kind, size), None
        case [(_, int(offset), int(length))] if 0 <= offset and 0 <= length <= size - offset:
            return Storage(key, kind, size), (offset, length)
    raise CheckpointError(f"{location}: a view that does not lie in its {size} elements")
