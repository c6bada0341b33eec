"""Checks: the tensors of an adapter, its configuration and a model are of each other."""

import collections
import dataclasses
from collections.abc import Collection

from .. import params as fp
from ..core.model import Model
from ..params.adapters.adapted_weight import base_of
from ..params.adapters.peft.config import PeftConfig
from ..params.adapters.peft.targets import is_saved, is_targeted
from ..params.adapters.peft.tensors import AdapterTensors
from ..params.checkpoint.disk_leaf import DiskLeaf
from ..params.errors import CheckpointError, quoted, some, warn
from ..params.tree.measure import HOST_KINDS
from ..params.tree.paths import nearest
from .torch_modules import OTHER, Modules, today

_TOKENS = "trainable_tokens_delta"


def aligned(tensors: AdapterTensors, table: Modules, model: Model) -> AdapterTensors:
    """Returns the tensors under the model's names: older spellings, and those of an adapter of the
    backbone alone, or of a model with a head.

    Raises:
        CheckpointError: a module that the model does not have.
    """
    prefix = f"{model.base_model_prefix}."
    names = [*tensors.fields, *tensors.replaced]

    def known(name: str) -> Collection[str]:
        return table.modules if name in tensors.fields else table.tensors

    def renamed(add: str, drop: str) -> dict[str, str]:
        found = {name: name if name in known(name) else today(name, model) for name in names}
        return {
            name: new if new in known(name) else add + new.removeprefix(drop)
            for name, new in found.items()
        }

    for add, drop in (("", ""), (prefix, ""), ("", prefix)):
        found = renamed(add, drop)
        if any(new not in known(name) for name, new in found.items()):
            continue
        (name, count), *_ = collections.Counter(found.values()).most_common(1)
        if count > 1:
            raise CheckpointError(f"{tensors.where}: {quoted(name)} is there under {count} names")
        if add or drop:
            what = "of the backbone alone" if add else "of a model with a head"
            warn(f"{tensors.where}: the adapter is {what}, and its names are taken so")
        return dataclasses.replace(
            tensors,
            fields={found[name]: value for name, value in tensors.fields.items()},
            replaced={found[name]: value for name, value in tensors.replaced.items()},
        )
    strange = [name for name, new in renamed("", "").items() if new not in known(name)]
    copies = [name for name in strange if name.removesuffix(".weight") in table.copies]
    if copies:
        of = table.copies[copies[0].removesuffix(".weight")]
        raise CheckpointError(
            f"{tensors.where}: adapts {quoted(copies[0])}, which is {of} here and has no weight of "
            "its own; merge the adapter with peft's merge_and_unload(), and save that"
        )
    raise CheckpointError(
        f"{tensors.where}: {len(strange)} of {len(names)} modules are none of "
        f"{type(model).__name__}: {some(map(quoted, strange), 3)}"
        f"{nearest(strange[0], [*table.modules, *table.tensors])}. It is an adapter of another "
        "base, or of another class of models"
    )


def check_targets(tensors: AdapterTensors, table: Modules, config: PeftConfig) -> None:
    """Compares the modules that have tensors with those that the configuration means.

    Raises:
        CheckpointError: one without the other.
    """
    tokens = {name for name, x in tensors.fields.items() if any(_TOKENS in key for key in x)}
    adapted = tensors.fields.keys() - tokens
    if config.trainable_token_indices and not tokens:
        raise CheckpointError(
            f"{tensors.where}: trainable_token_indices are "
            f"{[end for end, _ in config.trainable_token_indices]}, and no {_TOKENS} is there"
        )
    if config.target_modules is None or config.peft_type == "TRAINABLE_TOKENS":
        return
    meant = {
        name
        for name, module in table.modules.items()
        if module.kind != OTHER and is_targeted(config, name)
    }
    if config.ensure_weight_tying:  # heads that are tied to what is meant
        meant |= {name for name in adapted if table.modules[name].part == "product"}
        meant -= {name for name in meant - adapted if table.modules[name].part != "all"}
    if not meant and not adapted:
        raise CheckpointError(
            f"{tensors.where}: target_modules {config.target_modules} match no module of the base"
        )
    if lost := sorted(meant - adapted):
        raise CheckpointError(
            f"{tensors.where}: the configuration adapts {len(meant)} modules, and {len(lost)} of "
            f"them have no tensors: {some(lost, 3)}; the file is not whole, or of another "
            "configuration or base"
        )
    if odd := sorted(adapted - meant):
        raise CheckpointError(
            f"{tensors.where}: tensors of {some(odd, 3)} ({len(odd)}) are left over: "
            f"target_modules, exclude_modules and layers_to_transform of the configuration do not "
            "mean these modules, and PEFT would pass them over"
        )


def check_saved(tensors: AdapterTensors, table: Modules, config: PeftConfig) -> None:
    """Compares the tensors of the base that are replaced with what the configuration replaces.

    Raises:
        CheckpointError: one that is missing, or left over.
    """
    meant = {
        name
        for name in table.tensors
        if config.modules_to_save and is_saved(config, name.rpartition(".")[0])
    }
    if lost := sorted(meant - tensors.replaced.keys()):
        raise CheckpointError(
            f"{tensors.where}: modules_to_save are {', '.join(config.modules_to_save)}, and "
            f"{some(lost, 3)} of the base ({len(lost)}) have no tensor there"
        )
    odd = sorted(
        name
        for name in tensors.replaced.keys() - meant
        if not (name.endswith(".bias") and config.bias != "none")
        and not (name.removesuffix(".weight") in table.modules and _is_table(table, name))
    )
    if odd:
        raise CheckpointError(
            f"{tensors.where}: {some(map(quoted, odd), 3)} ({len(odd)}) would take the place of "
            "tensors of the base, and neither modules_to_save nor bias of the configuration says so"
        )


def check_places(leaves: fp.Params, where: str) -> None:
    """Refuses weights that stay off the devices: a run in stages knows no adapters.

    Raises:
        CheckpointError: with the first of them.
    """
    away = [path for path, leaf in leaves.items() if _is_away(leaf)]
    if away:
        raise CheckpointError(
            f"{where}: adapts {away[0]} ({len(away)} such), which device_map keeps in host memory "
            "or on the disk, and a weight there has no adapters; map it to a device, or merge the "
            "adapter into its base first: model.merge_adapter(params), and save that"
        )


def _is_away(leaf: object) -> bool:
    base = base_of(leaf)
    where = getattr(base, "sharding", None)
    return isinstance(base, DiskLeaf) or getattr(where, "memory_kind", None) in HOST_KINDS


def _is_table(table: Modules, name: str) -> bool:
    """Tells whether a tensor is one of those that PEFT saves along: tables and heads."""
    module = table.modules[name.removesuffix(".weight")]
    return module.kind in ("table", "head") or "lm_head" in name
