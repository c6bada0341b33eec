"""Indexes of sharded checkpoints: which tensor is in which file of the folder."""

import os

from ..errors import CheckpointError, quoted, some
from ..names import layout_of, spelling
from .files import check_inside
from .known import Content, Format
from .source import Tensor
from .store import LOCAL, Store


def read_sharded(path: str, format: Format, weights_only: bool, store: Store) -> Content:
    """The tensors that an index names, each from the shard it names."""
    weight_map, save_id = _read_index(path, format, store)
    folder = os.path.dirname(path)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    owner: dict[str, str] = {}
    shards: dict[str, list[str]] = {}
    for name, shard in weight_map.items():
        shards.setdefault(shard, []).append(name)
    _check_there(path, shards, store)
    paths = {shard: os.path.join(folder, shard) for shard in sorted(shards)}
    if store is LOCAL:
        for shard_path in paths.values():
            check_inside(folder, shard_path)
    store.expect(list(paths.values()), format.reads)
    for shard, shard_path in paths.items():
        inside = shards[shard]
        found, said = format.read(shard_path, weights_only, store)
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


def _check_there(path: str, shards: dict[str, list[str]], store: Store) -> None:
    folder = os.path.dirname(path)
    lost = [shard for shard in sorted(shards) if not store.exists(os.path.join(folder, shard))]
    if lost:
        others = f"; so are {some(map(quoted, lost[1:]))}" if lost[1:] else ""
        raise CheckpointError(
            f"{path}: shard {quoted(lost[0])} is missing; it holds "
            f"{some(map(quoted, shards[lost[0]]), 3)}{others}"
        )


def _read_index(path: str, format: Format, store: Store) -> tuple[dict[str, str], str | None]:
    """({tensor name: file name}, which save it is of, if it says so) of a sharded checkpoint's
    index; every name stays in the folder.

    Raises:
        CheckpointError: not an index, or a shard name that is not a plain relative path.
    """
    index = store.open(path).json("an index")
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: not an index: no weight_map of tensor names to files")
    own = os.path.basename(path)
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not is_plain(shard) or shard == own:
            raise CheckpointError(
                f"{path}: {quoted(name)} is said to be in {quoted(shard)}, which is not the name "
                "of a file in this folder"
            )
        if not shard.endswith(format.endings):
            raise CheckpointError(
                f"{path}: {quoted(name)} is said to be in {quoted(shard)}, which is no file of "
                "this format"
            )
    metadata = index.get("metadata")
    return weight_map, metadata.get("save_id") if isinstance(metadata, dict) else None


def is_plain(name: str) -> bool:
    """Whether `name` is a relative path that cannot leave the folder on any system."""
    parts = name.split("/")
    return (
        all(parts)
        and ".." not in parts
        and "." not in parts
        and name[0] != "~"
        and name.isprintable()
        and "\\" not in name
        and ":" not in name
    )
