"""Folders: which files of a folder are the checkpoint, single or sharded with an index."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import PurePosixPath

from .. import strict_json
from ..errors import CheckpointError, quoted, some
from ..names import FLAX, layout_of
from . import msgpack, orbax, safetensors
from .files import File, check_inside
from .orbax_layout import is_folder as is_orbax
from .source import Source, Tensor

_MAX_INDEX = 100 << 20
_INDEX = ".index.json"


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of weights files.

    Attributes:
        file_name: of the checkpoint in a folder; its index adds ".index.json".
        endings: of a file's name, by which the format is known.
        read: an opened file -> (name -> lazy tensor, what the file says of itself).
        frameworks: whose checkpoints it may hold: "pt", "tf", "flax".
    """

    file_name: str
    endings: tuple[str, ...]
    read: Callable[[File], tuple[dict[str, Tensor], dict[str, str]]]
    frameworks: tuple[str, ...]

    @property
    def stem(self) -> str:
        return self.file_name.partition(".")[0]

    @property
    def ending(self) -> str:
        return self.file_name.partition(".")[2]


def _msgpack(file: File) -> tuple[dict[str, Tensor], dict[str, str]]:
    return msgpack.read_index(file), {"format": FLAX}


SAFETENSORS = Format(
    "model.safetensors", (".safetensors",), safetensors.read_header, ("pt", "tf", "flax")
)
MSGPACK = Format("flax_model.msgpack", (".msgpack",), _msgpack, ("flax",))
FORMATS = (SAFETENSORS, MSGPACK)
"""In the order in which they are looked for in a folder."""
ORBAX = "flax_model.orbax"
"""The folder that is looked for after them."""


def open_checkpoint(
    path: str | os.PathLike,
    *,
    use_safetensors: bool | None = None,
    framework: str | None = None,
    variant: str | None = None,
) -> Source:
    """Opens a checkpoint: a folder, a weights file, or the index of a sharded one.

    Of a folder, the first format of `FORMATS` that is there is taken, and a single file before a
    sharded one; then `flax_model.orbax` in it, then the folder itself if orbax wrote it.

    Args:
        use_safetensors: True takes nothing else, False never takes it.
        framework: take only what "pt", "tf" or "flax" writes.
        variant: take `model.<variant>.safetensors` and its like, nothing else.

    Raises:
        CheckpointError: nothing there, or something in it that is not as its format says.
    """
    path = os.fspath(path)
    if not os.path.isdir(path):
        return _open_named(path, os.path.basename(path))
    formats = [
        format
        for format in FORMATS
        if use_safetensors in (None, format is SAFETENSORS)
        and (framework is None or framework in format.frameworks)
    ]
    candidates = [name for format in formats for name in _names(format, variant)]
    for name in candidates:
        if os.path.lexists(os.path.join(path, name)):
            return _open_named(os.path.join(path, name), name)
    if use_safetensors is not True and framework in (None, "flax"):
        candidates.append(_orbax_name(variant))
        folder = os.path.join(path, candidates[-1])
        if os.path.isdir(folder):
            return _open_orbax(folder)
        if variant is None and is_orbax(path):
            return _open_orbax(path)
    try:
        there = sorted(os.listdir(path))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    raise CheckpointError(
        f"{path}: no checkpoint: looked for {', '.join(candidates)}; the folder holds "
        f"{some(there) or 'nothing'}"
    )


def _names(format: Format, variant: str | None) -> tuple[str, str]:
    """The names of a folder's single file and of its index."""
    name = format.file_name if variant is None else f"{format.stem}.{variant}.{format.ending}"
    return name, f"{format.stem}.{format.ending}{_INDEX}" if variant is None else (
        f"{format.stem}.{format.ending}.index.{variant}.json"
    )


def _orbax_name(variant: str | None) -> str:
    return ORBAX if variant is None else f"flax_model.{variant}.orbax"


def _open_orbax(path: str) -> Source:
    tensors, metadata = orbax.read_folder(path)
    return Source(path, _slashed(path, tensors), FLAX, metadata)


def _open_named(path: str, name: str) -> Source:
    is_index = name.endswith(".json") and ".index." in name
    stem = name.partition(".index.")[0] if is_index else name
    format = next((format for format in FORMATS if stem.endswith(format.endings)), None)
    if format is None:
        known = ", ".join(ending for format in FORMATS for ending in format.endings)
        raise CheckpointError(
            f"{path}: not a checkpoint folder, a weights file ({known}), or the .index.json of "
            f"one{'' if os.path.exists(path) else '; there is no such file or folder'}"
        )
    read = format.read
    tensors, metadata = _open_sharded(path, read) if is_index else read(File(path))
    layout = layout_of(tensors, metadata)
    if layout == FLAX:
        tensors = _slashed(path, tensors)
    return Source(path, tensors, layout, metadata)


def _slashed(path: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Old Flax joins names by "." in safetensors, by "/" elsewhere; here it is "/" always."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        slashed = name.replace(".", "/")
        if slashed in found:
            raise CheckpointError(
                f"{path}: tensors {quoted(found[slashed].name)} and {quoted(name)} both stand for "
                f"{quoted(slashed)}"
            )
        found[slashed] = tensor
    return found


def _open_sharded(path: str, read: Callable) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that an index names, each from the shard it names."""
    weight_map = read_weight_map(path)
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
        check_inside(folder, shard_path)
        found, said = read(File(shard_path))
        metadata |= said
        for name in inside:
            if name not in found:
                raise CheckpointError(f"{shard_path}: no tensor {quoted(name)}, which {path} names")
        for name, tensor in found.items():
            if name in owner:
                raise CheckpointError(f"{path}: {quoted(name)} is in {owner[name]} and in {shard}")
            owner[name] = shard
            tensors[name] = tensor
    return tensors, metadata


def read_weight_map(path: str) -> dict[str, str]:
    """{tensor name: file name} of a sharded checkpoint's index; every name stays in the folder.

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
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _plain(shard) or shard == os.path.basename(path):
            raise CheckpointError(
                f"{path}: {quoted(name)} is said to be in {quoted(shard)}, which is not the name "
                "of a file in this folder"
            )
    return weight_map


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
