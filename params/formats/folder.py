"""Folders: which files of a folder are the checkpoint, single or sharded with an index."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable
from pathlib import PurePosixPath

from .. import strict_json
from ..errors import CheckpointError, quoted, some
from ..names import FLAX, TF, layout_of, spelling
from . import h5, msgpack, safetensors, tf_checkpoint, torch
from .files import File, stays_inside
from .source import Source, Tensor

_MAX_INDEX = 100 << 20


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of weights files.

    Attributes:
        file_name: of the checkpoint in a folder; its index adds ".index.json".
        endings: of a file's name, by which the format is known.
        read: an opened file -> (name -> lazy tensor, what the file says of itself).
        frameworks: whose checkpoints it may hold: "pt", "tf", "flax".
        has_index: whether such files may be the shards of a .index.json.
    """

    file_name: str
    endings: tuple[str, ...]
    read: Callable[[File], tuple[dict[str, Tensor], dict[str, str]]]
    frameworks: tuple[str, ...]
    has_index: bool = True

    @property
    def stem(self) -> str:
        return self.file_name.partition(".")[0]

    @property
    def ending(self) -> str:
        return self.file_name.partition(".")[2]

    def heads(self, variant: str | None = None) -> tuple[str, ...]:
        """What makes a folder a checkpoint: the name of the single file, and of the index."""
        single, index = self.file_name, f"{self.file_name}.index.json"
        if variant is not None:  # as Transformers has it
            single = f"{self.stem}.{variant}.{self.ending}"
            index = f"{self.file_name}.index.{variant}.json"
        return (single, index) if self.has_index else (single,)

    def files(self, count: int, *, variant: str | None = None, tag: str = "") -> list[str]:
        """The names of `count` files of weights."""
        if count == 1:
            return [self.heads(variant)[0]]
        stem = self.stem if variant is None else f"{self.stem}.{variant}"
        return [f"{stem}{tag}-{i:05d}-of-{count:05d}.{self.ending}" for i in range(1, count + 1)]

    def owns(self, name: str, variant: str | None = None) -> bool:
        """Whether `name` is a file of such a checkpoint."""
        stem = self.stem if variant is None else f"{self.stem}.{variant}"
        shard = rf"{re.escape(stem)}(-[0-9a-f]{{8}})?-\d{{5}}-of-\d{{5}}\.{self.ending}"
        return name in self.heads(variant) or re.fullmatch(shard, name) is not None


def _msgpack(file: File) -> tuple[dict[str, Tensor], dict[str, str]]:
    return msgpack.read_index(file), {"format": FLAX}


def _torch(file: File, weights_only: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    return torch.read_index(file, weights_only=weights_only), {"format": "pt"}


def _h5(file: File) -> tuple[dict[str, Tensor], dict[str, str]]:
    return h5.read_index(file), {"format": TF}


def _tf_checkpoint(file: File) -> tuple[dict[str, Tensor], dict[str, str]]:
    return tf_checkpoint.read_index(file), {"format": TF}


SAFETENSORS = Format(
    "model.safetensors", (".safetensors",), safetensors.read_header, ("pt", "tf", "flax")
)
MSGPACK = Format("flax_model.msgpack", (".msgpack",), _msgpack, ("flax",))
TORCH = Format("pytorch_model.bin", (".bin", ".pt", ".pth"), _torch, ("pt",))
TF_H5 = Format("tf_model.h5", (".h5",), _h5, ("tf",))
TF_CHECKPOINT = Format("model.ckpt.index", (".index",), _tf_checkpoint, ("tf",), False)
BERT_CHECKPOINT = dataclasses.replace(TF_CHECKPOINT, file_name="bert_model.ckpt.index")
FORMATS = (SAFETENSORS, MSGPACK, TORCH, TF_H5, TF_CHECKPOINT, BERT_CHECKPOINT)
"""In the order in which they are looked for in a folder."""
WRITTEN = (SAFETENSORS, MSGPACK)


def open_checkpoint(
    path: str | os.PathLike,
    *,
    use_safetensors: bool | None = None,
    framework: str | None = None,
    variant: str | None = None,
    weights_only: bool = True,
) -> Source:
    """Opens a checkpoint: a folder, a weights file, or the index of a sharded one; "x/model.ckpt"
    is short for "x/model.ckpt.index".

    Of a folder, the first format of `FORMATS` that is there is taken, and a single file before a
    sharded one.

    Args:
        use_safetensors: True takes nothing else, False never takes it.
        framework: take only what "pt", "tf" or "flax" writes.
        variant: take `model.<variant>.safetensors` and its like, nothing else.
        weights_only: of PyTorch's own files; False reads the tensors of one that also holds other
            things, which are left out. No code of a file is ever run.

    Raises:
        CheckpointError: nothing there, or something in it that is not as its format says.
    """
    path = os.fspath(path)
    if not os.path.exists(path) and os.path.exists(f"{path}.index"):
        path = f"{path}.index"
    if not os.path.isdir(path):
        return _open_named(path, os.path.basename(path), weights_only)
    candidates = heads(use_safetensors=use_safetensors, framework=framework, variant=variant)
    for name in candidates:
        if os.path.lexists(os.path.join(path, name)):
            return _open_named(os.path.join(path, name), name, weights_only)
    try:
        there = sorted(os.listdir(path))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    raise CheckpointError(
        f"{path}: no checkpoint: looked for {', '.join(candidates)}; the folder holds "
        f"{some(there) or 'nothing'}"
    )


def heads(
    *,
    use_safetensors: bool | None = None,
    framework: str | None = None,
    variant: str | None = None,
) -> dict[str, Format]:
    """{name of a file that makes a folder a checkpoint: its format}, in the order of preference;
    arguments as `open_checkpoint`."""
    return {
        name: format
        for format in FORMATS
        if use_safetensors in (None, format is SAFETENSORS)
        and (framework is None or framework in format.frameworks)
        for name in format.heads(variant)
    }


def is_weights(name: str, variant: str | None = None) -> bool:
    """Whether a file of this name holds weights that a save into its folder replaces."""
    return any(format.owns(name, variant) for format in WRITTEN)


def is_head(name: str, variant: str | None = None) -> bool:
    """Whether a file of this name makes its folder a checkpoint."""
    return any(name in format.heads(variant) for format in WRITTEN)


def _open_named(path: str, name: str, weights_only: bool) -> Source:
    is_index = name.endswith(".json") and ".index." in name
    format = _format_of(name.partition(".index.")[0] if is_index else name)
    if format is None:
        known = ", ".join(ending for format in FORMATS for ending in format.endings)
        raise CheckpointError(
            f"{path}: not a checkpoint folder, a weights file ({known}), or the .index.json of "
            f"one{'' if os.path.exists(path) else '; there is no such file or folder'}"
        )
    read = format.read
    if format is TORCH:
        read = functools.partial(_torch, weights_only=weights_only)
    tensors, metadata = _open_sharded(path, read) if is_index else read(File(path))
    layout = layout_of(tensors, metadata)
    return Source(path, _spelled(path, tensors, layout), layout, metadata)


def _format_of(name: str) -> Format | None:
    return next((format for format in FORMATS if name.endswith(format.endings)), None)


def _spelled(path: str, tensors: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
    """The parameters among `tensors`, under the names of their layout."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        spelled = spelling(name, layout)
        if spelled in found:
            raise CheckpointError(
                f"{path}: tensors {quoted(found[spelled].name)} and {quoted(name)} both stand for "
                f"{quoted(spelled)}"
            )
        if spelled is not None:
            is_row = layout == TF and len(tensor.shape) == 2 and tensor.shape[0] == 1
            if is_row and spelled.endswith(".bias"):  # GPT-2's
                tensor = dataclasses.replace(tensor, shape=tensor.shape[1:])
            found[spelled] = tensor
    return found


def _open_sharded(path: str, read: Callable) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that an index names, each from the shard it names."""
    weight_map, save_id = _read_index(path)
    folder = os.path.dirname(path)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    owner: dict[str, str] = {}
    shards: dict[str, list[str]] = {}
    for name, shard in weight_map.items():
        shards.setdefault(shard, []).append(name)
    for shard, inside in sorted(shards.items()):
        shard_path = os.path.join(folder, shard)
        if not os.path.exists(shard_path):
            raise CheckpointError(
                f"{path}: shard {quoted(shard)} is missing; it holds {some(map(quoted, inside), 3)}"
            )
        stays_inside(folder, shard_path)
        found, said = read(File(shard_path))
        if save_id is not None and said.get("save_id") != save_id:
            raise CheckpointError(
                f"{shard_path}: of save {quoted(said.get('save_id'))}, the index is of "
                f"{quoted(save_id)}: the folder holds a mixture of two; save it again"
            )
        metadata |= said
        layout = layout_of(found, said)  # TensorFlow's index has longer names than its shards
        spelled = {spelling(name, layout) for name in found}
        for name in inside:
            if spelling(name, layout) not in spelled:
                raise CheckpointError(f"{shard_path}: no tensor {quoted(name)}, which {path} names")
        for name, tensor in found.items():
            if name in owner:
                raise CheckpointError(f"{path}: {quoted(name)} is in {owner[name]} and in {shard}")
            owner[name] = shard
            tensors[name] = tensor
    return tensors, metadata


def _read_index(path: str) -> tuple[dict[str, str], str | None]:
    """({tensor name: file name}, which save it is of, if it says so) of a sharded checkpoint's
    index; every name stays in the folder.

    Raises:
        CheckpointError: not an index, or a shard name that is not a plain relative path.
    """
    file = File(path)
    if file.size > _MAX_INDEX:
        raise CheckpointError(f"{path}: {file.size} bytes; an index has at most {_MAX_INDEX}")
    try:
        index = strict_json.loads(file.read(0, file.size))
    except ValueError as error:
        raise CheckpointError(f"{path}: not an index: {error}") from None
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: not an index: no weight_map of tensor names to files")
    format = _format_of(os.path.basename(path).partition(".index.")[0])
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _plain(shard) or shard == os.path.basename(path):
            raise CheckpointError(
                f"{path}: {quoted(name)} is said to be in {quoted(shard)}, which is not the name "
                "of a file in this folder"
            )
        if format is None or _format_of(shard) is not format:
            raise CheckpointError(
                f"{path}: {quoted(name)} is said to be in {quoted(shard)}, which is no file of "
                "this format"
            )
    metadata = index.get("metadata")
    return weight_map, metadata.get("save_id") if isinstance(metadata, dict) else None


def _plain(name: str) -> bool:
    """Whether `name` is a relative path that cannot leave the folder on any system."""
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and "/".join(parts) == name
        and not name.startswith("~")
        and not set(name) & set("\\:\0")
        and not any(part in (".", "..") for part in parts)
        and not name.startswith("/")
    )
