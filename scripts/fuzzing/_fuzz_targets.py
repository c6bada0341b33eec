"""Lists what is fuzzed: for each parser of files, a function of bytes that returns, or raises what
a caller has been told to expect."""

import contextlib
import functools
import json
import os
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO
from unittest import mock

import tensorstore
from _fuzz_harness import LARGEST_READ, ZEROS, Memory, One, Target, check_text, read_some

from flaxmodels import gguf
from flaxmodels.auto import AutoConfig
from flaxmodels.checkpoints.classes import config_class
from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.formats import checksums, hdf5, msgpack, safetensors
from flaxmodels.params.formats.files import Cursor, File, Span
from flaxmodels.params.formats.gguf import Array, open_gguf
from flaxmodels.params.formats.orbax import tree, zarr
from flaxmodels.params.formats.orbax.pinned import PinnedFolder
from flaxmodels.params.formats.source import Source
from flaxmodels.params.formats.tensorflow import bundle, sstable
from flaxmodels.params.formats.torch import archive, legacy
from flaxmodels.params.formats.torch.pickles import Machine
from flaxmodels.params.formats.torch.state_dict import Saved, read_tensors
from flaxmodels.params.formats.torch.storages import storages
from flaxmodels.params.quantized.readers.gguf import read_gguf
from flaxmodels.params.tree.naming import TORCH

TF_MARK = b"\xfe\xff\xfe"


def _safetensors(data: bytes) -> None:
    read_some(safetensors.read_header(Memory(data))[0].values())


def _msgpack(data: bytes) -> None:
    read_some(msgpack.read_index(Memory(data)).values())


def _saved(file: File, saved: Saved) -> None:
    """Reads a PyTorch file's tensors, alone and from among other things."""
    for weights_only in (False, True):
        read_some(read_tensors(file, saved, weights_only=weights_only).values())


def _torch(data: bytes, load: Callable[[File], Saved]) -> None:
    file = Memory(data)
    _saved(file, load(file))


def _unchecked_zip() -> contextlib.AbstractContextManager:
    """Changes to a pickle would all end at its checksum."""
    return mock.patch.object(archive._Archive, "check", lambda self, name: None)


def _pickle(data: bytes) -> None:
    """A pickle whose storages, up to 1 MiB, are all there."""
    file = Memory(data)
    machine = Machine(Cursor(file))
    root = machine.load()
    spans = {
        key: Span(ZEROS, 0, min(storage.nbytes, ZEROS.size))
        for key, storage in storages(file, machine).items()
    }
    _saved(file, Saved(root, machine, spans))


def _gguf(data: bytes) -> None:
    opened = open_gguf("memory", One(data))
    source = read_gguf(Source("memory", opened.tensors, TORCH))
    read_some(source.tensors.values())
    for key, value in opened.metadata.items():
        if isinstance(value, Array) and value.length < LARGEST_READ:
            assert len(value.read()) == value.count, key


def _gguf_model(data: bytes) -> None:
    """The configuration that the metadata say, and the tensors under PyTorch's names."""
    opened = open_gguf("memory", One(data))
    values = gguf.config_of(opened)
    config = config_class(values).from_dict(values, path="memory")
    hash(config)
    read_some(gguf.source_of(opened).tensors.values())


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
        check_text(str(warning.message))
    for file in source.files:
        assert os.path.dirname(os.path.realpath(file.path)) == str(_folder()), file.path
    read_some(source.tensors.values())


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
    read_some(bundle.read_index(index).values())


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
    read_some(hdf5.read_index(Memory(bytes(64))).values())


def _h5_process() -> contextlib.AbstractContextManager:
    def call(command: list[str], *, stdout: IO[bytes], **how: object) -> int:
        stdout.write(_answer)
        return 0

    return mock.patch.object(subprocess, "call", call)


def _orbax_tree(data: bytes) -> None:
    folder = _folder() / "orbax"
    (folder / "_METADATA").write_bytes(data)
    with mock.patch.object(tree, "open_arrays", lambda folder, names, **how: {}):
        read_some(tree.read_folder(str(folder))[0].values())


def _orbax_aggregate(data: bytes) -> None:
    tensors = msgpack.read_index(Memory(data), tree._Aggregate).values()
    read_some(tensor for tensor in tensors if tensor.spans)  # the others only say where an array is


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
    read_some([zarr.ZarrTensor("w", store.shape, dtype, store=store, **held)])


def _checksums(data: bytes) -> None:
    checksums._read(Memory(data))


def _config(data: bytes) -> None:
    path = _folder() / "config.json"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys that are not known
        config = AutoConfig.from_pretrained(path)
        hash(config)
        if config.num_labels < 1000:  # what is written names each of them
            assert type(config).from_dict(json.loads(config.to_json())) == config


TARGETS = {
    "safetensors": Target(_safetensors, head=8),
    "index": Target(_index, head=0),
    "msgpack": Target(_msgpack),
    "gguf": Target(_gguf),
    "gguf-model": Target(_gguf_model),
    "torch-zip": Target(functools.partial(_torch, load=archive.load), around=_unchecked_zip),
    "torch-legacy": Target(functools.partial(_torch, load=legacy.load)),
    "pickle": Target(_pickle),
    "tf-table": Target(_tf_table, around=_unchecked_tf),
    "tf-entries": Target(_tf_table, around=_tf_parts),
    "h5-answer": Target(_h5_answer, head=0, around=_h5_process),
    "orbax-tree": Target(_orbax_tree, head=0),
    "orbax-aggregate": Target(_orbax_aggregate),
    "zarr-2": Target(functools.partial(_zarr, version=2), head=0),
    "zarr-3": Target(functools.partial(_zarr, version=3), head=0),
    "checksums": Target(_checksums, head=0),
    "config": Target(_config, head=0),
}
