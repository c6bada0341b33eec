"""Indexes of sharded checkpoints: which tensor is in which file of the folder."""

import os
from collections.abc import Mapping

from ..errors import CheckpointError, quoted, some, warn
from ..tree.naming import layout_of, spelling
from .files import LARGEST_JSON
from .registry import Content, Format
from .source import Tensor, are_equal
from .store import LOCAL, Store


def read_sharded(
    path: str, format: Format, weights_only: bool, store: Store
) -> tuple[Content, dict[str, str]]:
    """Reads the shards that an index names -> (their tensors, {tensor: shard} of those that are
    named and absent)."""
    weight_map, save_id = _read_index(path, format, store)
    shards: dict[str, list[str]] = {}
    for name, shard in weight_map.items():
        shards.setdefault(shard, []).append(name)
    paths = _paths(path, shards, store)
    store.expect(list(paths.values()), format.reads)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    owner: dict[str, str] = {}
    absent: dict[str, str] = {}
    for shard, shard_path in paths.items():
        found, shard_metadata = format.read(shard_path, weights_only, store)
        if save_id is not None and shard_metadata.get("save_id") != save_id:
            raise CheckpointError(
                f"{shard_path}: of save {quoted(shard_metadata.get('save_id'))}, the index is of "
                f"{quoted(save_id)}: the folder holds a mixture of two; save it again"
            )
        metadata |= shard_metadata
        layout = layout_of(found, shard_metadata)
        # TensorFlow's index has longer names than its shards.
        spelled = {spelling(name, layout) for name in found}
        absent |= {n: shard_path for n in shards[shard] if spelling(n, layout) not in spelled}
        for name, tensor in found.items():
            if name in owner and not are_equal(tensors[name], tensor):
                raise CheckpointError(
                    f"{path}: {quoted(name)} is in {quoted(owner[name])} and in {quoted(shard)}, "
                    "and is not the same there"
                )
            if name not in owner or weight_map.get(name) == shard:
                owner[name], tensors[name] = shard, tensor
    if absent:
        name, shard_path = next(iter(absent.items()))
        if not tensors.keys() & weight_map.keys():
            raise CheckpointError(
                f"{shard_path}: no tensor {quoted(name)}, which {path} names, nor any other that "
                "it names"
            )
        warn(
            f"{path} lists {len(absent)} tensors that are not in their shards: {quoted(name)} in "
            f"{shard_path}{', ...' * (len(absent) > 1)}; no matter where the model does not need "
            "them"
        )
    return (tensors, metadata), absent


def _paths(path: str, shards: Mapping[str, list[str]], store: Store) -> dict[str, str]:
    """Finds all shards -> {shard: its path}."""
    folder = os.path.dirname(path)
    paths = {shard: os.path.join(folder, shard) for shard in sorted(shards)}
    lost = [shard for shard in paths if not store.exists(paths[shard])]
    if lost:
        others = f"; so are {some(map(quoted, lost[1:]))}" if lost[1:] else ""
        raise CheckpointError(
            f"{path}: shard {quoted(lost[0])} is missing; it holds "
            f"{some(map(quoted, shards[lost[0]]), 3)}{others}"
        )
    if store is LOCAL:
        _check_apart(path, paths)
    return paths


def _check_apart(path: str, paths: Mapping[str, str]) -> None:
    """Refuses two names for one file, as a disk that does not tell case gives."""
    known: dict[tuple[int, int], str] = {}
    for shard, shard_path in paths.items():
        try:
            info = os.stat(shard_path)
        except (OSError, ValueError):
            continue  # opening it says so
        if (twin := known.setdefault((info.st_dev, info.st_ino), shard)) != shard:
            raise CheckpointError(
                f"{path}: {quoted(twin)} and {quoted(shard)} are one file, and each should have "
                "tensors of its own"
            )


def _read_index(path: str, format: Format, store: Store) -> tuple[dict[str, str], str | None]:
    """Reads the index of a sharded checkpoint -> ({tensor name: file name}, the id of its save, if
    it has one). No file name leads out of the folder."""
    index = store.open(path, most=LARGEST_JSON).json("an index")
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: not an index: no weight_map of tensor names to files")
    own = os.path.basename(path)
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not is_plain(shard) or shard == own:
            problem = "not the name of a file in this folder"
        elif not shard.endswith(format.endings):
            problem = "no file of this format"
        else:
            continue
        raise CheckpointError(
            f"{path}: {quoted(name)} is said to be in {quoted(shard)}, which is {problem}"
        )
    metadata = index.get("metadata")
    return weight_map, metadata.get("save_id") if isinstance(metadata, dict) else None


def is_plain(name: str) -> bool:
    """Tells whether `name` is a relative path that cannot leave the folder on any system."""
    if {"", ".", ".."} & {*name.split("/")} or {"\\", ":"} & {*name}:
        return False
    return name[0] != "~" and name.isprintable()
