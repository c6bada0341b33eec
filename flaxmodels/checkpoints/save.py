"""Saving: config and weights into a folder; a reader finds the old checkpoint or the new one."""

import contextlib
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from .. import params as fp
from ..config.generation_config import GENERATION_CONFIG_NAME
from ..core.model import Model
from ..documents.json_files import CONFIG_NAME, text_of
from ..hub import HubOptions, copy_companion, tokenizer_files
from ..params.atomic.replace import atomic_replace
from ..params.checkpoint.saveable import check_variant, saveable
from ..params.checkpoint.write import SaveFunction, retag, write_checkpoint
from ..params.formats import FolderFile, is_main_file, is_weights
from ..params.formats.checksums import MANIFEST, write_checksums
from ..params.multihost import is_spread, run_on_all_processes
from ..registry import auto_names


def save(
    model: Model,
    params: Any,
    folder: str | os.PathLike,
    *,
    safe_serialization: bool = True,
    format: str | None = None,
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    select: fp.Mask | None = None,
    checksums: bool = False,
    is_main_process: bool | None = None,
    save_function: SaveFunction | None = None,
    tokenizer_from: str | os.PathLike | None = None,
    token: str | bool | None = None,
    progress: bool = True,
) -> None:
    """Writes `config.json` and weights, so that `from_pretrained` and Transformers can read them.

    Everything is written beside `folder` and takes its place when it is whole and on the disk
    (`params/atomic/replace.py`); other files in the folder stay, weights of an earlier save go.

    Args:
        params: the model's tree, looped or stacked as the model is; leaves that are spread over
            devices, or over the processes of a run, are put together one at a time.
        folder: made if absent.
        safe_serialization: safetensors under PyTorch names (opens in Transformers and vLLM); else
            flax msgpack under the names of old Flax checkpoints.
        format: "safetensors", "msgpack" or "orbax" (the tree as it is), instead of
            `safe_serialization`.
        max_shard_size: bytes, or a string such as "5GB"; a larger tensor is a file of its own.
        variant: part of the files' names: `model.<variant>.safetensors`.
        select: which leaves to write (a mask); `params` may then lack the others.
        checksums: also write `checksums.json`, for `from_pretrained(verify=True)`.
        is_main_process: whether this process writes; process 0 does if None. Where leaves are
            spread over processes, all of them must call this, and they wait for each other.
        save_function: called with {name: array} and a path for each file, instead of the format.
        tokenizer_from: a folder or repository whose tokenizer's and processor's files come along.
        token: for that repository, as `from_pretrained`.

    Raises:
        fp.CheckpointError: params that are not this model's, or the disk's own error; the folder
            is as it was.
    """
    folder = checked_folder(folder)
    check_variant(variant)
    params = saveable(params, model.abstract_params())
    writes = jax.process_index() == 0 if is_main_process is None else is_main_process
    together = functools.partial(
        run_on_all_processes, alone=not any(map(is_spread, jax.tree.leaves(params)))
    )
    along = together(lambda: companions(tokenizer_from, token) if writes else [])
    with contextlib.ExitStack() as stack:
        place = together(lambda: stack.enter_context(staging(folder, variant)) if writes else None)

        def write() -> None:
            write_weights(
                model,
                params,
                place and place.path,
                format=format or ("safetensors" if safe_serialization else "msgpack"),
                max_shard_size=max_shard_size,
                variant=variant,
                tag=place.tag if place else "",
                select=select,
                save_function=save_function,
                progress=progress,
            )
            if place is not None:
                write_side_files(model, params, place.path, along)
                if checksums:
                    write_checksums(place.path)

        together(write)
        together(stack.close)  # publishes


def checked_folder(folder: str | os.PathLike) -> Path:
    """
    Raises:
        TypeError: not a path.
        ValueError: a path that is no folder to save into; it is named.
        NotADirectoryError: a file.
    """
    text = os.fspath(folder)
    if not isinstance(text, str):
        raise TypeError(f"the folder to save into is {text!r}; give a str or a pathlib.Path")
    if reason := _refused(text):
        raise ValueError(f"cannot save into {text!r}: {reason}; name a folder for the checkpoint")
    if os.path.exists(text) and not os.path.isdir(text):
        raise NotADirectoryError(f"{text}: a file, expected a folder to save into")
    return Path(text)


def _refused(folder: str) -> str | None:
    if not folder:
        return "it is empty"
    if "\0" in folder:
        return "it holds a NUL"
    if folder.startswith("~") and not os.path.exists(folder):
        return "only a shell replaces ~, give os.path.expanduser(...)"
    real = os.path.realpath(folder)
    return "it is the root of the file system" if os.path.dirname(real) == real else None


def write_weights(model: Model, params: Any, folder: Path | None, **how: Any) -> list[str]:
    """The model's weights, into an empty folder; arguments as `write_checkpoint`."""
    return write_checkpoint(folder, params, model.abstract_params(), model.naming, **how)


def staging(folder: str | os.PathLike, variant: str | None):
    """The context in which a checkpoint is written to take the place of `folder`'s."""
    others = (CONFIG_NAME, GENERATION_CONFIG_NAME, MANIFEST)
    return atomic_replace(
        folder,
        is_ours=lambda name: name in others or is_weights(name, variant),
        is_main_file=lambda name: is_main_file(name, variant),
        retag=lambda path, tag: retag(path, tag, variant),
    )


def companions(
    tokenizer_from: str | os.PathLike | None, token: str | bool | None = None
) -> list[FolderFile]:
    """The files that come along."""
    return (
        [] if tokenizer_from is None else tokenizer_files(tokenizer_from, HubOptions(token=token))
    )


def write_side_files(model: Model, params: Any, folder: Path, along: Sequence[FolderFile]) -> None:
    """What lies beside the weights, and copies of the files that come along.

    Raises:
        fp.CheckpointError: the disk's own error.
    """
    try:
        (folder / CONFIG_NAME).write_text(_written_config(model, params), encoding="utf-8")
        if model.can_generate() and model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
    except OSError as error:
        raise fp.CheckpointError(f"{error.filename or folder}: {error.strerror}") from error
    for file in along:
        if not (folder / file.name).exists():  # such as a generation_config.json of the model's own
            copy_companion(file, folder)


def _written_config(model: Model, params: Any) -> str:
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
    values = model.config.to_dict() | {"architectures": [type(model).__name__]}
    for name in ("torch_dtype", "dtype", "auto_map"):
        values.pop(name, None)
    if autos := auto_names(type(model)):  # names without a module: no reader takes them for code
        values["auto_map"] = dict.fromkeys(autos, type(model).__name__)
    if len(dtypes) == 1:
        (dtype,) = dtypes
        values |= {"dtype": dtype, "torch_dtype": dtype}  # Transformers 5 and 4
    return text_of(values)
