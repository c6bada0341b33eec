"""Writing: params -> the files of a checkpoint, one tensor after the other."""

import dataclasses
import functools
import json
import os
import secrets
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from ..errors import CheckpointError
from ..formats import MSGPACK, ORBAX, SAFETENSORS, Format
from ..formats import msgpack as msgpack_format
from ..formats import safetensors as safetensors_format
from ..formats.checksums import MANIFEST, write_checksums
from ..formats.orbax import write_folder, zarr
from ..sizes import parse_size
from ..strict_json import Json
from ..tree.masks import Mask
from ..tree.naming import FLAX, PATHS, PLAIN, TORCH, Naming
from ..tree.paths import flatten, unflatten
from ..tree.select import select as select_leaves
from ..types import PyTree
from .encode import Parts, msgpack_parts, safetensors_parts
from .file_writer import FileWriter, OnFile, SaveFunction
from .packed_layouts import OURS, check_method
from .saveable import check_variant, saveable
from .tensor_specs import TensorSpec, plan_shards, tensor_specs
from .together import Target, disk_errors, named, strangers, told, write_together


@dataclasses.dataclass(frozen=True)
class WriteOptions:
    """What the files of a checkpoint are.

    Attributes:
        format: "safetensors" under PyTorch names, "msgpack" in the names and layouts of old Flax
            checkpoints, or "orbax": the tree itself, written by orbax from where it lies.
        layout: of names and kernels, instead of the format's own.
        max_shard_size: bytes, or a string such as "5GB"; a larger tensor is a file of its own.
        variant: part of the files' names: `model.<variant>.safetensors`.
        tag: part of the shards' names, to tell them from those of another save.
        select: which leaves to write; all if None.
        save_function: called with {name: array} and a path for each file, instead of the format.
        save_id: whether the shards of safetensors say which save they are of, so that those of two
            are told apart; without it, the same params make the same files.
        quant_method: the layout of quantised weights, one of `packed_layouts.METHODS`.
    """

    format: str = "safetensors"
    layout: str | None = None
    max_shard_size: int | str = "5GB"
    variant: str | None = None
    tag: str = ""
    select: Mask | None = None
    save_function: SaveFunction | None = None
    save_id: bool = True
    quant_method: str = OURS

    @property
    def names(self) -> str:
        """The layout of names and kernels."""
        return self.layout or _written(self.format).layout

    def __post_init__(self) -> None:
        if self.save_function is not None and not callable(self.save_function):
            raise TypeError(
                f"save_function is {self.save_function!r:.80}; expected a function of "
                "({name: array}, the path of a file)"
            )
        parse_size(self.max_shard_size)
        check_variant(self.variant)
        _written(self.format)
        check_method(self.quant_method, self.names)


def write_checkpoint(
    folder: str | os.PathLike | None,
    params: PyTree,
    template: PyTree,
    naming: Naming = PLAIN,
    options: WriteOptions | None = None,
    *,
    on_file: OnFile | None = None,
    progress: bool = True,
) -> list[str]:
    """Writes weights, and an index if there are several files, into an empty folder.

    Where leaves are spread over the devices of several processes, each writes the bytes that its
    own devices hold, into the one's folder (`params/save/together.py`): every process must call
    it, and all but one with `folder=None`.

    Args:
        folder: None takes part; another process gives one.
        on_file: called with the path of each file when it is whole. It may take the file away: the
            disk then needs room for the largest only. Not called for orbax, which is a folder.

    Returns:
        The names of the files, the index last.

    Raises:
        CheckpointError: params that are not the model's, a dtype the format does not have, or a
            disk that is full or fails, after the others have their part of every tensor.
    """
    options = options or WriteOptions()
    params = saveable(params, template)
    is_part = options.select is not None
    if options.select is not None:
        params = select_leaves(params, options.select)
        if not flatten(params):
            raise CheckpointError("select selects no leaf; nothing was written")
    if options.format == "orbax" and options.save_function is None:
        return [_write_orbax(folder, params, template, options.variant, is_part)]
    specs = tensor_specs(
        params,
        template,
        naming,
        options.names,
        partial=is_part,
        quant_method=options.quant_method,
    )
    _check_dtypes(specs, options.format)
    shards = plan_shards(specs, parse_size(options.max_shard_size))
    sizes = [sum(spec.nbytes for spec in shard) for shard in shards]
    is_quiet = not progress or folder is None
    if options.save_function is None and any(spec.is_spread for spec in specs):
        return _write_together(folder, shards, options, on_file, is_quiet)
    with tqdm(total=sum(sizes), unit="B", unit_scale=True, delay=1, disable=is_quiet) as bar:
        room = sum(sizes) if on_file is None else max(sizes)
        with FileWriter(folder, room, bar, on_file) as writer:
            return _write_shards(writer, shards, options)


def _write_together(
    folder: str | os.PathLike | None,
    shards: list[list[TensorSpec]],
    options: WriteOptions,
    on_file: OnFile | None,
    is_quiet: bool,
) -> list[str]:
    """Writes leaves that are spread over processes; the index last, by the main process."""
    written = _written(options.format)

    def find() -> Target:
        assert folder is not None
        names, metadata = _names(shards, options)
        main = jax.process_index()
        return Target(os.fspath(folder), main, tuple(names), metadata, asks=on_file is None)

    target = told(None if folder is None else find)
    if target is None:
        return []
    encoded = {
        name: written.encode(shard, dict(target.metadata))
        for name, shard in zip(target.names, shards, strict=True)
    }
    size = sum(spec.nbytes for shard in shards for spec in shard)
    with tqdm(total=size, unit="B", unit_scale=True, delay=1, disable=is_quiet) as bar:
        write_together(target, encoded, bar, on_file)
    names = list(target.names)
    if len(shards) > 1:
        names.append(written.format.main_files(options.variant)[1])
        if jax.process_index() == target.main:
            path = os.path.join(target.folder, names[-1])
            with disk_errors(path), open(path, "xb") as file:
                file.writelines(_index(names, shards, dict(target.metadata)))
            if on_file is not None:
                on_file(path)
    return names


def _names(
    shards: list[list[TensorSpec]], options: WriteOptions
) -> tuple[list[str], dict[str, str]]:
    """Returns the names of the files, without the index, and what their headers say."""
    written = _written(options.format)
    names = written.format.files(len(shards), variant=options.variant, tag=options.tag)
    metadata = {"format": "pt"}
    if options.save_id and len(shards) > 1 and written.format is SAFETENSORS:
        metadata["save_id"] = secrets.token_hex(8)
    return list(names), metadata


def _write_shards(
    writer: FileWriter, shards: list[list[TensorSpec]], options: WriteOptions
) -> list[str]:
    written = _written(options.format)
    names, metadata = _names(shards, options)
    others_wait = any(spec.is_spread for shard in shards for spec in shard)
    for name, shard in zip(names, shards, strict=True):
        if writer.error is not None and not others_wait:
            break
        if options.save_function is None:
            writer.write(name, written.encode(shard, metadata))
        else:
            writer.call(options.save_function, name, shard)
    if len(shards) > 1:
        names.append(written.format.main_files(options.variant)[1])
        writer.write(names[-1], _index(names, shards, metadata))
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
    folder: str | os.PathLike | None,
    params: PyTree,
    template: PyTree,
    variant: str | None,
    partial: bool,
) -> str:
    specs = tensor_specs(params, template, PLAIN, PATHS, partial=partial)
    _check_dtypes(specs, "orbax")
    (name,) = ORBAX.main_files(variant)
    if any(spec.is_spread for spec in specs):
        target = told(None if folder is None else functools.partial(Target.of, folder))
        if target is not None and (alone := strangers(target)):
            raise CheckpointError(
                f"{target.folder}: {named(alone)} cannot write there, as process "
                f'{target.main} can, and format="orbax" is written by all processes into one '
                "folder: give one on a disk that all see, or save safetensors"
            )
        folder = target and target.folder
    if folder is not None:
        leaves = {spec.name: spec.whole() for spec in specs}
        write_folder(os.path.join(folder, name), unflatten(leaves))
    return name


def layout_for(format: str) -> str:
    """Returns the names and layouts in which a format is written."""
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
    if not isinstance(format, str) or format not in _WRITTEN:
        raise ValueError(f"format is {format!r}; what can be written is {', '.join(_WRITTEN)}")
    return _WRITTEN[format]


def _index(
    names: list[str], shards: list[list[TensorSpec]], metadata: dict[str, str]
) -> Iterator[bytes]:
    total = sum(spec.nbytes for shard in shards for spec in shard)
    about: dict[str, Json] = {"total_size": total} | {
        k: v for k, v in metadata.items() if k == "save_id"
    }
    weight_map = {
        spec.name: name for name, shard in zip(names, shards, strict=False) for spec in shard
    }
    yield _json({"metadata": about, "weight_map": weight_map}).encode()


def _json(values: object) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"
