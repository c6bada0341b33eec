"""Saving: config and weights into a folder; a reader finds the old checkpoint or the new one."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import params as fp
from ..adapters.folders import save_adapters, warn_of_adapter
from ..config.generation_config import GENERATION_CONFIG_NAME
from ..core.model import Model
from ..documents.config_keys import QUANTISED
from ..documents.json_files import CONFIG_NAME, text_of
from ..hub import copy_companion
from ..params.adapters.attach import adapter_names
from ..params.adapters.peft.config import CONFIG_NAME as ADAPTER_NAME
from ..params.atomic.replace import atomic_replace
from ..params.checkpoint.disk_leaf import check_target
from ..params.formats import FolderFile, is_main_file, is_weights
from ..params.formats.checksums import MANIFEST, write_checksums
from ..params.multihost import any_spread, run_on_all_processes
from ..params.process_agreement import agree
from ..params.quantized.readers.flaxmodels_layout import config_of
from ..params.save.file_writer import OnFile
from ..params.save.packed_layouts import OURS, layout_config
from ..params.save.packed_pieces import forms_in_file
from ..params.save.saveable import check_variant, saveable
from ..params.save.target import checked_folder
from ..params.save.write import retag, write_checkpoint
from ..params.tree.select import select as select_leaves
from ..registration import auto_names
from .checkpoint_agreement import record_of_save
from .save_options import SaveOptions


@dataclasses.dataclass(frozen=True)
class Beside:
    """Files of a caller's own that are saved with a model's, as one checkpoint.

    Attributes:
        write: writes them into the folder that it is given.
        replaces: names in the folder that is saved into; those that are not written again go.
    """

    write: Callable[[Path], None]
    replaces: frozenset[str] = frozenset()


def save(
    model: Model,
    params: fp.PyTree,
    folder: str | os.PathLike,
    options: SaveOptions,
    beside: Beside | None = None,
) -> None:
    """Writes `config.json` and weights; see `PretrainedModel.save_pretrained`.

    Everything is written beside `folder` and takes its place when it is whole and on the disk
    (`params/atomic/replace.py`): a reader finds the old checkpoint or the new one.

    Args:
        beside: more files of the same checkpoint.

    Raises:
        fp.CheckpointError: params that are not this model's, or the disk's own error; the folder
            is unchanged.
    """
    folder = checked_folder(folder)
    check_variant(options.variant)
    if is_of_adapters(params, options):
        save_adapters_alone(model, params, folder, options)
        return
    params = saveable(params, model.abstract_params())
    check_target(params, folder)
    if (folder / ADAPTER_NAME).exists():
        warn_of_adapter(folder)
    is_local = not any_spread(params)
    together = functools.partial(run_on_all_processes, alone=is_local)
    if not is_local:
        chosen = params if options.select is None else select_leaves(params, options.select)
        agree("a save", record_of_save(model, params, folder, options, chosen))
    params = model.cut(params)
    companions = together(lambda: options.companions() if options.writes else [], "fetching")
    with contextlib.ExitStack() as stack:
        context = staging(folder, options.variant, beside.replaces if beside else frozenset())
        begin = functools.partial(stack.enter_context, context)
        place = together(lambda: begin() if options.writes else None, "beginning a save")

        def write() -> None:
            tag = place.tag if place else ""
            write_weights(model, params, place and place.path, options, tag=tag)
            if place is not None:
                if beside is not None:
                    beside.write(place.path)
                write_side_files(model, params, place.path, companions, options)
                if options.checksums:
                    write_checksums(place.path)

        together(write, "writing weights")
        together(stack.close, "replacing the old checkpoint")


def is_of_adapters(params: fp.PyTree, options: SaveOptions) -> bool:
    """Tells whether the adapters of params are written, and not their base.

    Raises:
        TypeError: there are adapters, and a format or keywords that are for weights of a base.
    """
    if not adapter_names(params) or options.weights_format == "orbax":
        return False
    if options.weights_format != "safetensors":
        raise TypeError(
            f"{options.weights_format} holds no adapters; save safetensors, which are PEFT's, or "
            'format="orbax", the whole tree; or fp.merge_adapters(params)'
        )
    for name in ("select", "variant", "checksums", "save_function", "quant_method"):
        if getattr(options, name) != getattr(SaveOptions, name):
            raise TypeError(
                f"{name} is for the weights of a base, and params with adapters are saved as their "
                "adapters alone; fp.without_adapters(params) and fp.merge_adapters(params) are "
                "params that can be saved so"
            )
    return True


def save_adapters_alone(
    model: Model, params: fp.PyTree, folder: Path, options: SaveOptions
) -> None:
    """Writes the adapters of params and not their base, as Transformers does; errors as `save`."""
    together = functools.partial(run_on_all_processes, alone=not any_spread(params))
    companions = together(lambda: options.companions() if options.writes else [], "fetching")

    def write() -> None:
        place, prefix = folder if options.writes else None, options.save_peft_format
        save_adapters(model, params, place, prefix=prefix, companions=companions)

    together(write, "writing adapters")


def write_weights(
    model: Model,
    params: fp.PyTree,
    folder: Path | None,
    options: SaveOptions,
    *,
    on_file: OnFile | None = None,
    **more: object,
) -> list[str]:
    """Writes the weights into an empty folder; returns the names of their files.

    Args:
        folder: None takes part in putting leaves together, and writes nothing.
        on_file: as of `write_checkpoint`.
        **more: fields of `WriteOptions`.
    """
    return write_checkpoint(
        folder,
        params,
        model.abstract_params(),
        model.naming,
        options.of_weights(**more),
        on_file=on_file,
        progress=options.progress,
    )


def staging(folder: str | os.PathLike, variant: str | None, replaces: frozenset[str] = frozenset()):
    """Makes the context in which a new checkpoint is written and then replaces `folder`'s.

    Args:
        replaces: names in `folder` that belong to the old one, beside those of a model.
    """
    others = {CONFIG_NAME, GENERATION_CONFIG_NAME, MANIFEST}

    def is_ours(name: str) -> bool:
        if name in replaces:
            return True
        # A folder under the name of a file is a user's; orbax's are folders.
        is_folder = True if os.path.isdir(os.path.join(folder, name)) else None
        return (name in others and not is_folder) or is_weights(name, variant, is_folder=is_folder)

    return atomic_replace(
        folder,
        is_ours=is_ours,
        is_main_file=lambda name: is_main_file(name, variant),
        retag=lambda path, tag: retag(path, tag, variant),
    )


def write_side_files(
    model: Model,
    params: fp.PyTree,
    folder: Path,
    companions: Sequence[FolderFile],
    options: SaveOptions,
) -> None:
    """Writes the configurations beside the weights, and copies the tokenizer's files.

    Raises:
        fp.CheckpointError: the disk's own error.
    """
    try:
        text = _written_config(model, params, options)
        (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
        if model.can_generate() and model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
    except OSError as error:
        raise fp.CheckpointError(f"{error.filename or folder}: {error.strerror}") from error
    for file in companions:
        if not (folder / file.name).exists():  # such as a generation_config.json of the model's own
            copy_companion(file, folder)


def _written_config(model: Model, params: fp.PyTree, options: SaveOptions) -> str:
    """Returns the text of `config.json`, with the class, the dtype of the params, and how they are
    quantised."""
    dtypes = {str(leaf.dtype) for leaf in fp.flatten(params).values()}
    values = model.config.to_dict() | {"architectures": [type(model).__name__]}
    values.pop(QUANTISED, None)
    written = params if options.select is None else select_leaves(params, options.select)
    template, layout = model.abstract_params(), options.of_weights().names
    if options.quant_method != OURS:
        head = model.output_embeddings_path
        method = options.quant_method
        values[QUANTISED] = layout_config(written, template, model.naming, method, head)
    elif forms := forms_in_file(written, template, model.naming, layout):
        values[QUANTISED] = config_of(forms)
    for name in ("torch_dtype", "dtype", "auto_map"):
        values.pop(name, None)
    if autos := auto_names(type(model)):  # names without a module: no reader takes them for code
        values["auto_map"] = dict.fromkeys(autos, type(model).__name__)
    if len(dtypes) == 1:
        (dtype,) = dtypes
        values |= {"dtype": dtype, "torch_dtype": dtype}  # Transformers 5 and 4
    return text_of(values)
