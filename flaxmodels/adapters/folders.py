"""Folders of adapters, as PEFT has them: found, opened and put onto params; written."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .. import hub
from .. import params as fp
from ..core.model import Model
from ..documents.json_files import CONFIG_NAME as BASE_NAME
from ..hub import HubOptions, Location
from ..params.adapters.attach import check_new_name
from ..params.adapters.peft.config import CONFIG_NAME, PeftConfig, read_config
from ..params.adapters.peft.tensors import (
    PREFIX,
    WEIGHTS,
    AdapterTensors,
    parse,
    read_tensors,
    weights_path,
)
from ..params.atomic.replace import atomic_replace
from ..params.checkpoint.sources import source_of
from ..params.errors import CheckpointError, quoted, warn
from ..params.formats import FolderFile
from ..params.save.options import WriteOptions
from ..params.save.write import write_checkpoint
from ..params.tree.naming import PATHS
from .from_peft import read_adapters
from .to_peft import Written, written_adapter

DEFAULT = "default"
"""The name of an adapter that was given none."""
_FILE, _WRITTEN = "adapter_model.safetensors", "model.safetensors"


@dataclasses.dataclass(frozen=True)
class OpenAdapter:
    """An adapter of PEFT whose names and shapes are known; no tensor is read yet."""

    config: PeftConfig
    tensors: AdapterTensors

    def onto(self, model: Model, params: fp.Params, name: str) -> fp.Params:
        """Returns params with the adapter, which alone acts then, as after a load by Transformers.

        Raises:
            CheckpointError: it is of another base, or its files contradict each other; the params
                that were given are what they were.
            ValueError: there is one of this name.
        """
        check_new_name(params, name)
        params, adapters = read_adapters(model, params, self.tensors, self.config)
        kept = {
            path: dataclasses.replace(each, config=self.config) for path, each in adapters.items()
        }
        try:
            return fp.set_adapters(fp.attach(params, name, kept), name)
        except ValueError as error:
            raise CheckpointError(f"{self.tensors.where}: {error}") from None


def is_adapter(location: Location) -> bool:
    """Tells whether a location has an adapter's configuration."""
    folder, store = location.path, location.store
    return store.is_folder(folder) and store.exists(os.path.join(folder, CONFIG_NAME))


def warn_of_adapter(where: object) -> None:
    """Warns of an adapter beside which weights are saved: a load puts it onto them."""
    warn(
        f"{where}: {CONFIG_NAME} stays beside the weights, and from_pretrained puts that adapter "
        "onto them; if it is merged into these params, remove it"
    )


def open_adapter(location: Location) -> OpenAdapter:
    """Opens an adapter; fetches its files, where they are not on this machine.

    Raises:
        CheckpointError: no adapter there, or one that is not done here.
    """
    folder, store = location.path, location.store
    if not store.is_folder(folder):
        raise CheckpointError(f"{folder}: a file; give the folder with its {CONFIG_NAME}")
    location.fetch([os.path.join(folder, CONFIG_NAME)])
    config = read_config(folder, store)
    location.fetch([weights_path(folder, store)])
    return OpenAdapter(config, read_tensors(folder, config, store))


def opened_state(config: object, state: Mapping[str, object]) -> OpenAdapter:
    """Opens an adapter out of memory: {PEFT's name: array}, and its configuration."""
    config = PeftConfig.of(config)
    return OpenAdapter(config, parse(source_of(state).tensors, config, "adapter_state_dict"))


def named_base(location: Location, options: HubOptions) -> tuple[str, HubOptions]:
    """Returns the name of the base that an adapter is for, and where in its repository it is.

    Raises:
        CheckpointError: the adapter names none, or an address, which a stranger's file may not
            have us open.
    """
    config = read_config(location.path, location.store)
    name = config.base_model_name_or_path
    load = "load the base, and then params = model.load_adapter(params, folder)"
    path = os.path.join(location.path, CONFIG_NAME)
    if not name:
        raise CheckpointError(
            f"{path}: base_model_name_or_path is {quoted(name)}, and there are no weights of a "
            f"base beside the adapter; {load}"
        )
    if "://" in name or "\0" in name:
        raise CheckpointError(
            f"{path}: base_model_name_or_path is the address {quoted(name)}, which is not opened "
            f"because a file says so; {load}"
        )
    revision = config.revision or "main"
    return name, dataclasses.replace(options, revision=revision, subfolder="")


# --- writing ---


def write_adapters(
    model: Model,
    params: fp.Params,
    folder: Path | None,
    *,
    prefix: bool = True,
    beside_base: bool = False,
) -> None:
    """Writes all adapters of params into an empty folder: the first of those that act in it, the
    others in folders of their names.

    Args:
        folder: None takes part in putting arrays together, and writes nothing.
        prefix: begin the names of tensors as PEFT does.
        beside_base: whether they will lie beside their base, which needs no name then.
    """
    for place, name in places_of(params).items():
        written = written_adapter(model, params, name)
        if folder is None:
            continue
        inside = folder / place
        inside.mkdir(parents=True, exist_ok=True)
        _write(inside, written if beside_base else _with_base(written, model), prefix)


def places_of(params: fp.Params) -> dict[str, str]:
    """Returns {folder: name of the adapter that is written there}; "" is the folder itself."""
    names, active = fp.adapter_names(params), fp.active_adapters(params)
    main = active[0] if active else DEFAULT if DEFAULT in names else names[0]
    return {"": main} | {name: name for name in names if name != main}


def save_adapters(
    model: Model,
    params: fp.Params,
    folder: Path | None,
    *,
    prefix: bool = True,
    companions: Sequence[FolderFile] = (),
) -> None:
    """Writes adapters into a folder, where they take the place of those that are there; other
    files, such as the base's, stay. Arguments as `write_adapters`.

    Args:
        companions: files of a tokenizer, that come along.
    """
    if folder is None:
        write_adapters(model, params, None, prefix=prefix)
        return
    places = places_of(params)
    with atomic_replace(
        folder,
        is_ours=lambda name: name in (CONFIG_NAME, *WEIGHTS) or name in places,
        is_main_file=lambda name: name in WEIGHTS,
    ) as place:
        beside_base = (folder / BASE_NAME).exists()
        write_adapters(model, params, place.path, prefix=prefix, beside_base=beside_base)
        for file in companions:
            hub.copy_companion(file, place.path)


def _write(folder: Path, written: Written, prefix: bool) -> None:
    start = PREFIX if prefix else ""
    arrays = {f"{start}{name}": np.asarray(array) for name, array in written.tensors.items()}
    options = WriteOptions(layout=PATHS, max_shard_size="1000TB", save_id=False)
    try:
        write_checkpoint(folder, arrays, arrays, options=options, progress=False)
        os.rename(folder / _WRITTEN, folder / _FILE)
        (folder / CONFIG_NAME).write_text(written.config.text(), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder}: {error.strerror}") from error


def _with_base(written: Written, model: Model) -> Written:
    """Returns what is written with the name of the base, where that is known."""
    config = written.config
    if config.base_model_name_or_path is None and model.origin:
        config = dataclasses.replace(config, base_model_name_or_path=model.origin)
    if config.base_model_name_or_path is None:
        warn(
            "the adapter is saved without the name of its base, which is of no repository; "
            "from_pretrained of the folder needs config.json and weights of the base in it, and "
            "model.load_adapter does without"
        )
    return written._replace(config=config)
