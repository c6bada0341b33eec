"""The registry of formats: what their files are called, and what reads them."""

import dataclasses
import re
from collections.abc import Callable

from ..tree.naming import FLAX, TF
from . import gguf, hdf5, msgpack, orbax, safetensors, tensorflow, torch
from .source import Tensor
from .store import Reads, Store

Content = tuple[dict[str, Tensor], dict[str, str]]
"""(name -> lazy tensor, what the file says of itself)."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of checkpoints.

    Attributes:
        file_name: of the checkpoint in a folder.
        endings: of a file's name, by which the format is known.
        read: (path, weights_only, store) -> the content of a file.
        reads: how it does so.
        frameworks: whose checkpoints it may hold: "pt", "tf", "flax".
        has_index: whether such files may be the shards of an index.
        is_folder: whether what is called a file here is a folder.
    """

    file_name: str
    endings: tuple[str, ...]
    read: Callable[[str, bool, Store], Content]
    reads: Reads
    frameworks: tuple[str, ...]
    has_index: bool = True
    is_folder: bool = False

    def stem(self, variant: str | None = None) -> str:
        """Returns what the names of its files begin with."""
        stem = self.file_name.partition(".")[0]
        return stem if variant is None else f"{stem}.{variant}"

    @property
    def ending(self) -> str:
        return self.file_name.partition(".")[2]

    def main_files(self, variant: str | None = None) -> tuple[str, ...]:
        """Returns the names that make a folder a checkpoint: the single file's, and the index's."""
        single, index = f"{self.stem(variant)}.{self.ending}", f"{self.file_name}.index.json"
        if variant is not None:  # as Transformers has it
            index = f"{self.file_name}.index.{variant}.json"
        return (single, index) if self.has_index else (single,)

    def files(self, count: int, *, variant: str | None = None, tag: str = "") -> list[str]:
        """Returns the names of `count` files of weights."""
        if count == 1:
            return [self.main_files(variant)[0]]
        stem = self.stem(variant)
        return [f"{stem}{tag}-{i:05d}-of-{count:05d}.{self.ending}" for i in range(1, count + 1)]

    def owns(self, name: str, variant: str | None = None) -> bool:
        """Tells whether `name` is a file of such a checkpoint."""
        shard = (
            rf"{re.escape(self.stem(variant))}(-[0-9a-f]{{8}})?-\d{{5}}-of-\d{{5}}\.{self.ending}"
        )
        is_shard = re.fullmatch(shard, name) is not None
        return name in self.main_files(variant) or is_shard or self.waits(name, variant)

    def waits(self, name: str, variant: str | None = None) -> bool:
        """Tells whether `name` is a folder that a save was about to rename to the checkpoint's
        name, on a disk that cannot exchange two folders; it is the checkpoint if there is no
        other."""
        waiting = rf"{re.escape(self.stem(variant))}-[0-9a-f]{{8}}\.{self.ending}"
        return self.is_folder and re.fullmatch(waiting, name) is not None


def _safetensors(path: str, weights_only: bool, store: Store) -> Content:
    return safetensors.read_header(store.open(path))


def _msgpack(path: str, weights_only: bool, store: Store) -> Content:
    return msgpack.read_index(store.open(path)), {"format": FLAX}


def _orbax(path: str, weights_only: bool, store: Store) -> Content:
    return orbax.read_folder(path)


def _torch(path: str, weights_only: bool, store: Store) -> Content:
    return torch.read_index(store.open(path), weights_only=weights_only), {"format": "pt"}


def _h5(path: str, weights_only: bool, store: Store) -> Content:
    return hdf5.read_index(store.open(path)), {"format": TF}


def _tf_checkpoint(path: str, weights_only: bool, store: Store) -> Content:
    return tensorflow.read_index(store.open(path), path, store), {"format": TF}


def _gguf(path: str, weights_only: bool, store: Store) -> Content:
    return gguf.open_gguf(path, store).tensors, {"format": "pt"}


SAFETENSORS = Format(
    "model.safetensors", (".safetensors",), _safetensors, Reads.START, ("pt", TF, FLAX)
)
MSGPACK = Format("flax_model.msgpack", (".msgpack",), _msgpack, Reads.ALL, (FLAX,))
ORBAX = Format(
    "flax_model.orbax", (".orbax",), _orbax, Reads.PATH, (FLAX,), has_index=False, is_folder=True
)
TORCH = Format("pytorch_model.bin", (".bin", ".pt", ".pth"), _torch, Reads.ALL, ("pt",))
TF_H5 = Format("tf_model.h5", (".h5",), _h5, Reads.PATH, (TF,))
TF_CHECKPOINT = Format(
    "model.ckpt.index", (".index",), _tf_checkpoint, Reads.START, (TF,), has_index=False
)
BERT_CHECKPOINT = dataclasses.replace(TF_CHECKPOINT, file_name="bert_model.ckpt.index")

GGUF = Format("model.gguf", (".gguf",), _gguf, Reads.START, ("pt",), has_index=False)

FORMATS = (SAFETENSORS, MSGPACK, ORBAX, TORCH, TF_H5, TF_CHECKPOINT, BERT_CHECKPOINT)
"""In the order in which they are looked for in a folder; files of GGUF are given by their names."""
WRITTEN = (SAFETENSORS, MSGPACK, ORBAX)


def format_of(name: str) -> Format | None:
    """Returns the format that a file of this name has."""
    return next((format for format in (*FORMATS, GGUF) if name.endswith(format.endings)), None)


def is_weights_file(name: str) -> bool:
    """Tells whether a name ends as that of a weights file does, or of an index of such files."""
    format = format_of(name.partition(".index.")[0] if name.endswith(".json") else name)
    return format is not None and not format.is_folder


def main_files(
    *,
    use_safetensors: bool | None = None,
    framework: str | None = None,
    variant: str | None = None,
) -> dict[str, Format]:
    """Returns {name of what makes a folder a checkpoint: its format}, in the order of preference;
    arguments as `open_checkpoint`. A framework's own formats come before safetensors, which all of
    them use."""
    formats = FORMATS
    if framework is not None:
        own = [format for format in FORMATS if framework in format.frameworks]
        formats = sorted(own, key=lambda format: format is SAFETENSORS)
    return {
        name: format
        for format in formats
        if use_safetensors in (None, format is SAFETENSORS)
        for name in format.main_files(variant)
    }


def is_weights(name: str, variant: str | None = None, *, is_folder: bool | None = None) -> bool:
    """Tells whether a file of this name holds weights that a save into its folder replaces; or a
    folder (True), or either (None)."""
    return any(
        format.owns(name, variant) and is_folder in (None, format.is_folder) for format in WRITTEN
    )


def is_main_file(name: str, variant: str | None = None) -> bool:
    """Tells whether a file of this name makes its folder a checkpoint."""
    return any(
        name in format.main_files(variant) or format.waits(name, variant) for format in WRITTEN
    )
