"""Lists what is fuzzed: for each parser of files, a function of bytes that returns, or raises what
a caller has been told to expect."""

import contextlib
import dataclasses
import functools
import json
import os
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO
from unittest import mock

import tensorstore

from flaxmodels import gguf
from flaxmodels.auto import AutoConfig
from flaxmodels.checkpoints.classes import config_class
from flaxmodels.documents.json_values import ConfigError
from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.formats import checksums, hdf5, msgpack, safetensors
from flaxmodels.params.formats.files import Cursor, File, Span
from flaxmodels.params.formats.gguf import Array, open_gguf
from flaxmodels.params.formats.orbax import tree, zarr
from flaxmodels.params.formats.orbax.pinned import PinnedFolder
from flaxmodels.params.formats.source import Source, Tensor
from flaxmodels.params.formats.store import Reads
from flaxmodels.params.formats.tensorflow import bundle, sstable
from flaxmodels.params.formats.torch import archive, legacy
from flaxmodels.params.formats.torch.pickles import Machine
from flaxmodels.params.formats.torch.state_dict import Saved, read_tensors
from flaxmodels.params.formats.torch.storages import storages
from flaxmodels.params.quantized.readers.gguf import read_gguf
from flaxmodels.params.tree.naming import TORCH

LONGEST_MESSAGE = 4000
TF_MARK = b"\xfe\xff\xfe"
_LARGEST_READ = 1 << 20
_MOST_READ = 16 << 20
_MOST_CUT = 4


class Memory(File):
    """Bytes in memory as a file. Reading beyond its end is a fault of the reader: it has taken a
    length for true that it did not compare with the file's."""

    def __init__(self, data: bytes, path: str = "memory"):
        super().__init__(path, len(data))
        self._data = data

    def _fill(self, offset: int, view: memoryview) -> None:
        assert 0 <= offset <= self.size - len(view), f"{len(view)} bytes at {offset}"
        view[:] = self._data[offset : offset + len(view)]

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= self.size - length, f"{length} bytes at {offset}"
        return self._data[offset : offset + length]


_ZEROS = Memory(bytes(_LARGEST_READ))


@dataclasses.dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        parse: a whole file -> nothing.
        head: bytes of a length before the JSON that such a file is; None if it is none.
        around: what files are parsed in.
    """

    parse: Callable[[bytes], None]
    head: int | None = None
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def accepts(target: Target, data: bytes) -> bool:
    """Whether a file is read; the rule is that nothing but the expected errors escapes.

    Raises:
        AssertionError: an error that does not name the file, or that is not fit to print.
    """
    try:
        target.parse(data)
    except CheckpointError as error:
        _check_text(str(error))
        return False
    except ConfigError:
        return False
    return True


def _check_text(said: str) -> None:
    """Refuses an error or a warning that does not name the file, or that is not fit to print."""
    assert "memory" in said, f"does not name the file: {said!r}"
    assert len(said) <= LONGEST_MESSAGE and said.isprintable(), f"not to be printed: {said!r}"


def _read(tensors: Iterable[Tensor]) -> None:
    """Reads every small tensor, and a part of the first few."""
    left = _MOST_READ
    for i, tensor in enumerate(tensors):
        if tensor.nbytes >= _LARGEST_READ or tensor.nbytes > left:
            continue
        left -= tensor.nbytes
        array = tensor.read()
        assert array.shape == tensor.shape and array.dtype == tensor.dtype
        if i < _MOST_CUT:
            cut = tuple((size // 3, size - size // 3) for size in array.shape)
            part = array[tuple(slice(*bounds) for bounds in cut)]
            assert tensor.read(cut).tobytes() == part.tobytes()


def _safetensors(data: bytes) -> None:
    _read(safetensors.read_header(Memory(data))[0].values())


def _msgpack(data: bytes) -> None:
    _read(msgpack.read_index(Memory(data)).values())


def _saved(file: File, saved: Saved) -> None:
    """Reads a PyTorch file's tensors, alone and from among other things."""
    for weights_only in (False, True):
        _read(read_tensors(file, saved, weights_only=weights_only).values())


def _torch_zip(data: bytes) -> None:
    file = Memory(data)
    _saved(file, archive.load(file))


def _unchecked_zip() -> contextlib.AbstractContextManager:
    """Changes to a pickle would all end at its checksum."""
    return mock.patch.object(archive._Archive, "check", lambda self, name: None)


def _torch_legacy(data: bytes) -> None:
    file = Memory(data)
    _saved(file, legacy.load(file))


def _pickle(data: bytes) -> None:
    """A pickle whose storages, up to 1 MiB, are all there."""
    file = Memory(data)
    machine = Machine(Cursor(file))
    root = machine.load()
    spans = {
        key: Span(_ZEROS, 0, min(storage.nbytes, _ZEROS.size))
        for key, storage in storages(file, machine).items()
    }
    _saved(file, Saved(root, machine, spans))


class _One:
    """The store of one file in memory."""

    def __init__(self, data: bytes):
        self._file = Memory(data)

    def is_folder(self, path: str) -> bool:
        return False

    def exists(self, path: str) -> bool:
        return False

    def names(self, folder: str) -> list[str]:
        return []

    def expect(self, paths: Sequence[str], reads: Reads) -> None:
        pass

    def open(self, path: str, most: int | None = None) -> File:
        return self._file


def _gguf(data: bytes) -> None:
    opened = open_gguf("memory", _One(data))
    source = read_gguf(Source("memory", opened.tensors, TORCH))
    _read(source.tensors.values())
    for key, value in opened.metadata.items():
        if isinstance(value, Array) and value.length < _LARGEST_READ:
            assert len(value.read()) == value.count, key


def _gguf_model(data: bytes) -> None:
    """The configuration that the metadata say, and the tensors under PyTorch's names."""
    opened = open_gguf("memory", _One(data))
    values = gguf.config_of(opened)
    config = config_class(values).from_dict(values, path="memory")
    hash(config)
    _read(gguf.source_of(opened).tensors.values())


@functools.cache
def _folder() -> Path:
    """A folder of shards, with a link out of it; gone when the process is."""
    made = tempfile.TemporaryDirectory(prefix="memory-", dir=os.environ.get("FUZZ_FOLDER"))
    _kept.append(made)
    folder = Path(made.name)
    header = b'{"%s":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    for name in ("a", "b"):
        raw = header % name.encode()
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(8))
    (folder / "out.safetensors").symlink_to("/etc/hostname")
    (folder / "loop.safetensors").symlink_to("loop.safetensors")
    (folder / "folder.safetensors").mkdir()
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(bytes(4096))
    (folder / "orbax").mkdir()
    for name in ("0", "0.0", "c/0", "c.0", "c.0.0"):
        chunk = folder / "zarr" / name
        chunk.parent.mkdir(parents=True, exist_ok=True)
        chunk.write_bytes(bytes(range(16)))
    return folder


_kept: list[tempfile.TemporaryDirectory] = []


def _index(data: bytes) -> None:
    path = _folder() / "model.safetensors.index.json"
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        source = open_checkpoint(path)
    for warning in said:  # of tensors that are not in their shards
        _check_text(str(warning.message))
    for file in source.files:
        assert os.path.dirname(os.path.realpath(file.path)) == str(_folder()), file.path
    _read(source.tensors.values())


class _Equal:
    """A checksum that is the right one."""

    def __ne__(self, other: object) -> bool:
        return False


@contextlib.contextmanager
def _unchecked_tf() -> Iterator[None]:
    with (
        mock.patch.object(sstable, "masked_crc32c", lambda data: _Equal()),
        mock.patch.object(bundle, "masked_crc32c", lambda data: _Equal()),
    ):
        yield


def _tf_table(data: bytes) -> None:
    """An index beside a shard of zeros."""
    index = Memory(data, str(_folder() / "model.ckpt.index"))
    _read(bundle.read_index(index).values())


@contextlib.contextmanager
def _tf_parts() -> Iterator[None]:
    """The entries of an index are names and messages in turn, which marks keep apart."""

    def read_table(data: memoryview) -> dict[bytes, memoryview]:
        parts = bytes(data).split(TF_MARK)
        return {name: memoryview(value) for name, value in zip(parts[::2], parts[1::2])}  # noqa: B905

    with _unchecked_tf(), mock.patch.object(bundle, "read_table", read_table):
        yield


_answer = b""


def _h5_answer(data: bytes) -> None:
    """Sets what the process that walks an HDF5 file prints."""
    global _answer
    _answer = data
    _read(hdf5.read_index(Memory(bytes(64))).values())


def _h5_process() -> contextlib.AbstractContextManager:
    def call(command: list[str], *, stdout: IO[bytes], **how: object) -> int:
        stdout.write(_answer)
        return 0

    return mock.patch.object(subprocess, "call", call)


def _orbax_tree(data: bytes) -> None:
    folder = _folder() / "orbax"
    (folder / "_METADATA").write_bytes(data)
    _read(tree.read_folder(str(folder))[0].values())


def _no_arrays() -> contextlib.AbstractContextManager:
    return mock.patch.object(tree, "open_arrays", lambda folder, names, **how: {})


def _orbax_aggregate(data: bytes) -> None:
    tensors = msgpack.read_index(Memory(data), tree._Aggregate).values()
    _read(tensor for tensor in tensors if tensor.spans)  # the others only say where an array is


def _zarr(data: bytes, version: int) -> None:
    """An array's metadata, beside chunks of 16 bytes of which TensorStore makes what it can."""
    folder = _folder() / "zarr"
    (folder / {2: ".zarray", 3: "zarr.json"}[version]).write_bytes(data)
    try:
        store = zarr.open_store({"driver": "file", "path": f"{folder}/"}, version).result()
    except ValueError as error:  # TensorStore's
        raise CheckpointError(str(error)) from error
    dtype = zarr.check_store("memory", store)
    held = {"context": tensorstore.Context(), "pinned": PinnedFolder(str(folder))}
    _read([zarr.ZarrTensor("w", store.shape, dtype, store=store, **held)])


def _checksums(data: bytes) -> None:
    checksums._read(Memory(data))


def _config(data: bytes) -> None:
    path = _folder() / "config.json"
    path.write_bytes(data)
    config = AutoConfig.from_pretrained(path)
    hash(config)
    if config.num_labels < 1000:  # what is written names each of them
        assert type(config).from_dict(json.loads(config.to_json())) == config


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys of config.json that are not known
        yield


TARGETS = {
    "safetensors": Target(_safetensors, head=8),
    "index": Target(_index, head=0),
    "msgpack": Target(_msgpack),
    "gguf": Target(_gguf),
    "gguf-model": Target(_gguf_model),
    "torch-zip": Target(_torch_zip, around=_unchecked_zip),
    "torch-legacy": Target(_torch_legacy),
    "pickle": Target(_pickle),
    "tf-table": Target(_tf_table, around=_unchecked_tf),
    "tf-entries": Target(_tf_table, around=_tf_parts),
    "h5-answer": Target(_h5_answer, head=0, around=_h5_process),
    "orbax-tree": Target(_orbax_tree, head=0, around=_no_arrays),
    "orbax-aggregate": Target(_orbax_aggregate),
    "zarr-2": Target(functools.partial(_zarr, version=2), head=0),
    "zarr-3": Target(functools.partial(_zarr, version=3), head=0),
    "checksums": Target(_checksums, head=0),
    "config": Target(_config, head=0, around=_quietly),
}
