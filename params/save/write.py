"""Writing: params -> the files of a checkpoint, one tensor after the other."""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
from tqdm import tqdm

from ..errors import CheckpointError
from ..formats import ORBAX, SAFETENSORS
from ..formats.checksums import MANIFEST, write_checksums
from ..formats.orbax import write_folder
from ..multihost import named
from ..sizes import parse_size
from ..tree.naming import PATHS, PLAIN, Naming
from ..tree.paths import flatten, unflatten
from ..tree.select import select as select_leaves
from ..types import PyTree
from .file_writer import Attempts, OnFile, disk_errors, write_file
from .options import WRITTEN, WriteOptions, written
from .saveable import saveable
from .several_processes import strangers, told, write_together
from .tensor_specs import TensorSpec, plan_shards, tensor_specs


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
    own devices hold, into the one's folder (`params/save/several_processes.py`): every process must
    call it, and all but one with `folder=None`.

    Args:
        folder: None takes part; another process gives one.
        on_file: called with the path of each file when it is whole. It may take the file away: the
            disk then needs room for the largest only. Not called for orbax, which is a folder.

    Returns:
        The names of the files, the index last; none where another process alone writes.

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
    is_spread = any(spec.is_spread for spec in specs)
    if folder is None and not is_spread:
        return []
    is_quiet, total = not progress or folder is None, sum(spec.nbytes for spec in specs)
    with tqdm(total=total, unit="B", unit_scale=True, delay=1, disable=is_quiet) as bar:
        if is_spread and options.save_function is None:
            return _write_together(folder, shards, options, on_file, bar)
        return _write_alone(folder, shards, options, on_file, bar, others_wait=is_spread)


def _write_together(
    folder: str | os.PathLike | None,
    shards: list[list[TensorSpec]],
    options: WriteOptions,
    on_file: OnFile | None,
    bar: tqdm,
) -> list[str]:
    """Writes leaves that are spread over processes; the index last, by the main process."""
    target = told(folder, *_names(shards, options), asks=on_file is None)
    if target is None:
        return []
    encode, names, metadata = written(options.format).encode, target.names, target.metadata
    weights, index = names[: len(shards)], names[len(shards) :]
    encoded = {name: encode(x, metadata) for name, x in zip(weights, shards, strict=True)}
    write_together(target, encoded, bar, on_file)
    if index and jax.process_index() == target.main:
        path = os.path.join(target.folder, *index)
        with disk_errors(path):
            _write_index(path, weights, shards, metadata)
        if on_file is not None:
            on_file(path)
    return [*names]


def _write_alone(
    folder: str | os.PathLike | None,
    shards: list[list[TensorSpec]],
    options: WriteOptions,
    on_file: OnFile | None,
    bar: tqdm,
    *,
    others_wait: bool,
) -> list[str]:
    """Writes everything on the process that has the folder; others take part in reading leaves that
    are spread over processes (`others_wait`)."""
    names, metadata = _names(shards, options)
    weights, index = names[: len(shards)], names[len(shards) :]
    sizes = [sum(spec.nbytes for spec in shard) for shard in shards]
    where = os.fspath(folder or "")
    attempt = Attempts(folder is not None, where, sizes, on_file)
    # With a thread for each file, malloc kept two tensors' worth of memory for every one whose end
    # came late.
    with ThreadPoolExecutor(1, thread_name_prefix="flaxmodels-save") as pool:
        for name, shard in zip(weights, shards, strict=True):
            if attempt.error is not None and not others_wait:
                break
            path = os.path.join(where, name)
            if options.save_function is None:
                parts = written(options.format).encode(shard, metadata)
                attempt(path, write_file, path, parts, bar, pool)
            else:
                arrays = {spec.name: spec.read() for spec in shard}
                attempt(path, options.save_function, arrays, path)
                attempt(path, _check_file, path)
            attempt(path, on_file, path)
    for name in index:
        path = os.path.join(where, name)
        attempt(path, _write_index, path, weights, shards, metadata)
        attempt(path, on_file, path)
    if attempt.error is not None:
        raise attempt.error
    return names


def _check_file(path: str) -> None:
    if not os.path.isfile(path):
        found = "a folder" if os.path.isdir(path) else "nothing"
        raise CheckpointError(f"{path}: save_function made {found} there; expected a file")


def _names(
    shards: list[list[TensorSpec]], options: WriteOptions
) -> tuple[list[str], dict[str, str]]:
    """Returns (the names of the files, that of an index last; what their headers say)."""
    format = written(options.format).format
    names = [*format.files(len(shards), variant=options.variant, tag=options.tag)]
    metadata = {"format": "pt"}
    if len(shards) > 1:
        names.append(format.main_files(options.variant)[1])
        if options.save_id and format is SAFETENSORS:
            metadata["save_id"] = secrets.token_hex(8)
    return names, metadata


def retag(folder: Path, tag: str, variant: str | None = None) -> None:
    """Gives the shards in a folder, which have no tag yet, this one, in their names and wherever
    the index and `checksums.json` have these."""
    names = os.listdir(folder)
    for format in WRITTEN.values():
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
        if spec.dtype not in WRITTEN[format].dtypes:
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
        target = told(folder)
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


def _write_index(
    path: str,
    names: Sequence[str],
    shards: list[list[TensorSpec]],
    metadata: Mapping[str, str],
) -> None:
    total = sum(spec.nbytes for shard in shards for spec in shard)
    about = {"total_size": total} | {k: v for k, v in metadata.items() if k == "save_id"}
    weight_map = {
        spec.name: name for name, shard in zip(names, shards, strict=True) for spec in shard
    }
    with open(path, "x", encoding="utf-8") as file:
        file.write(_json({"metadata": about, "weight_map": weight_map}))


def _json(values: object) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"
