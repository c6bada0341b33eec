"""Writing: params -> the files of a checkpoint, one tensor after the other."""

import dataclasses
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import CheckpointError
from ..formats import MSGPACK, ORBAX, SAFETENSORS, Format
from ..formats import msgpack as msgpack_format
from ..formats import safetensors as safetensors_format
from ..formats.checksums import MANIFEST, write_checksums
from ..formats.orbax import write_folder, zarr
from ..host.copies import contiguous, copy, empty_bytes
from ..multihost import broadcast_text, is_spread
from ..sizes import format_size, parse_size
from ..tree.masks import Mask
from ..tree.naming import FLAX, PATHS, PLAIN, TORCH, Naming
from ..tree.paths import flatten, unflatten
from ..tree.select import select as select_leaves
from .encode import Parts, msgpack_parts, safetensors_parts
from .saveable import check_variant, saveable
from .tensor_specs import TensorSpec, plan_shards, tensor_specs

_BLOCK = 1 << 20  # bytes transposed at once: they are still in the cache when they are written
Block = bytes | memoryview

SaveFunction = Callable[[dict[str, np.ndarray], str], None]
OnFile = Callable[[str], None]


def write_checkpoint(
    folder: str | os.PathLike | None,
    params: Any,
    template: Any,
    naming: Naming = PLAIN,
    *,
    format: str = "safetensors",
    layout: str | None = None,
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    tag: str = "",
    select: Mask | None = None,
    save_function: SaveFunction | None = None,
    on_file: OnFile | None = None,
    save_id: bool = True,
    progress: bool = True,
) -> list[str]:
    """Writes weights, and an index if there are several files, into an empty folder.

    Leaves that are spread over the devices of several processes are put together one at a time:
    every process must call it, and all but one with `folder=None`.

    Args:
        folder: None takes part and writes nothing.
        format: "safetensors" under PyTorch names, "msgpack" in the names and layouts of old Flax
            checkpoints, or "orbax": the tree as it is, written by orbax from where it lies.
        layout: of names and kernels, instead of the format's own.
        max_shard_size: bytes, or a string such as "5GB"; a larger tensor is a file of its own.
        variant: part of the files' names: `model.<variant>.safetensors`.
        tag: part of the shards' names, to tell them from those of another save.
        select: which leaves to write; all if None.
        save_function: called with {name: array} and a path for each file, instead of the format.
        on_file: called with the path of each file when it is whole. It may take the file away: the
            disk then needs room for the largest only. Not called for orbax, which is a folder.
        save_id: whether the shards of safetensors say which save they are of, so that those of two
            are told apart; without it, the same params make the same files.

    Returns:
        The names of the files, the index last.

    Raises:
        CheckpointError: params that are not the model's, a dtype the format does not have, or a
            disk that is full or fails, after the others have their part of every tensor.
    """
    limit = parse_size(max_shard_size)
    check_variant(variant)
    written = _written(format)
    params = saveable(params, template)
    if select is not None:
        params = select_leaves(params, select)
        if not flatten(params):
            raise CheckpointError("select selects no leaf; nothing was written")
    if format == "orbax" and save_function is None:
        return [_write_orbax(folder, params, template, variant, select is not None)]
    layout = layout or written.layout
    specs = tensor_specs(params, template, naming, layout, partial=select is not None)
    _check_dtypes(specs, format)
    shards = plan_shards(specs, limit)
    names = written.format.files(len(shards), variant=variant, tag=tag)
    metadata = {"format": "pt"}
    if save_id and len(shards) > 1 and written.format is SAFETENSORS:
        metadata["save_id"] = secrets.token_hex(8)  # shards of two saves are then told apart
    sizes = [sum(spec.nbytes for spec in shard) for shard in shards]
    total = sum(sizes)
    with tqdm(
        total=total, unit="B", unit_scale=True, delay=1, disable=not progress or folder is None
    ) as bar:
        writer = _Writer(folder, total if on_file is None else max(sizes), bar, on_file)
        others_wait = any(is_spread(spec.leaf) for spec in specs)
        for name, shard in zip(names, shards, strict=True):
            if writer.error is not None and not others_wait:
                break
            if save_function is None:
                writer.write(name, written.encode(shard, metadata))
            else:
                writer.call(save_function, name, shard)
    if len(shards) > 1:
        names.append(written.format.main_files(variant)[1])
        writer.write(names[-1], _index(names, shards, total, metadata))
    if writer.error is not None:
        raise writer.error
    return names


def retag(folder: Path, tag: str, variant: str | None = None) -> None:
    """Gives the shards in a folder, which have no tag yet, this one, in their names and wherever
    the index and `checksums.json` have these."""
    names = os.listdir(folder)
    for format in _WRITTEN.values():
        index = format.format.main_files(variant)[-1]
        if format.format.is_folder or index not in names:
            continue
        values = json.loads((folder / index).read_text(encoding="utf-8"))
        shards = sorted(set(values["weight_map"].values()))
        tagged = dict(
            zip(shards, format.format.files(len(shards), variant=variant, tag=tag), strict=True)
        )
        for old, new in tagged.items():
            os.rename(folder / old, folder / new)
        values["weight_map"] = {name: tagged[old] for name, old in values["weight_map"].items()}
        (folder / index).write_text(_json(values), encoding="utf-8")
        if MANIFEST in names:
            write_checksums(folder)


def _check_dtypes(specs: list[TensorSpec], format: str) -> None:
    for spec in specs:
        if spec.dtype not in _WRITTEN[format].dtypes:
            raise CheckpointError(f"{spec.name}: {format} cannot hold dtype {spec.dtype}")


def _write_orbax(
    folder: str | os.PathLike | None, params: Any, template: Any, variant: str | None, partial: bool
) -> str:
    specs = tensor_specs(params, template, PLAIN, PATHS, partial=partial)
    _check_dtypes(specs, "orbax")
    (name,) = ORBAX.main_files(variant)
    if any(is_spread(spec.leaf) for spec in specs):
        folder = broadcast_text(None if folder is None else os.fspath(folder))
    if folder is not None:
        leaves = {spec.name: spec.whole() for spec in specs}
        write_folder(os.path.join(folder, name), unflatten(leaves))
    return name


def layout_for(format: str) -> str:
    """The names and layouts in which a format is written."""
    return _written(format).layout


@dataclasses.dataclass(frozen=True)
class _Written:
    """How a format is written."""

    format: Format
    layout: str
    dtypes: Collection[np.dtype] = ()
    encode: Callable[[list[TensorSpec], dict[str, str]], Parts] = safetensors_parts


_WRITTEN = {
    "safetensors": _Written(SAFETENSORS, TORCH, safetensors_format.NAMES, safetensors_parts),
    "msgpack": _Written(MSGPACK, FLAX, set(msgpack_format.DTYPES.values()), msgpack_parts),
    "orbax": _Written(ORBAX, PATHS, set(zarr.DTYPES)),
}


def _written(format: str) -> _Written:
    if format not in _WRITTEN:
        raise ValueError(f"format is {format!r}; what can be written is {', '.join(_WRITTEN)}")
    return _WRITTEN[format]


class _Writer:
    """Writes files into a folder; after an error, and without a folder, only reads what it is
    given, so that the other processes of a run, which wait for each tensor, get to the end."""

    def __init__(
        self, folder: str | os.PathLike | None, room: int, bar: tqdm, on_file: OnFile | None
    ):
        self.folder = folder
        self.bar = bar
        self.room = room
        self.on_file = on_file
        self.error: CheckpointError | None = None
        try:
            if folder is not None and (free := shutil.disk_usage(folder).free) < room:
                self._fail(folder, f"the disk has {format_size(free)} left")
        except OSError as error:
            self._fail(folder or "", error.strerror or str(error))

    def write(self, name: str, parts: Parts) -> None:
        blocks = _blocks(parts)

        def save(path: str) -> None:
            with open(path, "xb") as file:
                for block in _ahead(blocks):
                    file.write(block)
                    if isinstance(block, memoryview):
                        self.bar.update(len(block))

        self._make(name, save)
        for _ in blocks:
            pass

    def call(self, save_function: SaveFunction, name: str, shard: list[TensorSpec]) -> None:
        arrays = {spec.name: spec.read() for spec in shard}
        self._make(name, lambda path: save_function(arrays, path))

    def _make(self, name: str, save: Callable[[str], None]) -> None:
        if self.folder is None or self.error is not None:
            return
        path = os.path.join(self.folder, name)
        try:
            save(path)
            os.stat(path)  # a function of the caller's may have put it elsewhere
        except OSError as error:
            self._fail(path, error.strerror or str(error))
            return
        try:
            if self.on_file is not None:
                self.on_file(path)
        except CheckpointError as error:
            self.error = error

    def _fail(self, path: str | os.PathLike, reason: str) -> None:
        self.error = CheckpointError(
            f"{os.fspath(path)}: {reason}; the weights take {format_size(self.room)}"
        )


def _ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """`blocks`, each specs while the one before it is in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="flaxmodels-save") as pool:
        future = pool.submit(next, blocks, None)
        while (block := future.result()) is not None:
            future = pool.submit(next, blocks, None)
            yield block


def _blocks(parts: Parts) -> Iterator[Block]:
    """The bytes of `parts`. A block is good until the next but one is asked for."""
    spec, tensor = None, np.empty(0)
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        if part.spec is not spec:
            spec, tensor = part.spec, part.spec.read()
        if part.stop - part.start < tensor.size:  # a chunk of a large one
            tensor = contiguous(tensor)
        if tensor.flags.c_contiguous:
            flat = tensor.reshape(-1)
            yield flat[part.start : part.stop].view(np.uint8).data
        else:
            yield from _in_order(tensor)


def _in_order(tensor: np.ndarray) -> Iterator[memoryview]:
    """The bytes in C order of an array that lies otherwise, some rows at a time."""
    row = tensor[:1].nbytes
    rows = max(1, _BLOCK // row)
    buffers = itertools.cycle([empty_bytes(rows * row) for _ in range(3)])
    for start in range(0, len(tensor), rows):
        source = tensor[start : start + rows]
        block = next(buffers)[: source.nbytes]
        copy(source, block.view(source.dtype).reshape(source.shape))
        yield block.data


def _index(
    names: list[str], shards: list[list[TensorSpec]], total: int, metadata: dict[str, str]
) -> Parts:
    said = {"total_size": total} | {k: v for k, v in metadata.items() if k == "save_id"}
    weight_map = {
        spec.name: name for name, shard in zip(names, shards, strict=False) for spec in shard
    }
    yield _json({"metadata": said, "weight_map": weight_map}).encode()


def _json(values: Any) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"
