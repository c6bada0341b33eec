"""Writing: an adapter of a tree of params -> the tensors and the configuration that PEFT has."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import params as fp
from ..core.model import Model
from ..params.adapters.adapter import ALL, Adapter, dense_of
from ..params.adapters.attach import get_adapters
from ..params.adapters.bank import Bank
from ..params.adapters.peft.config import PeftConfig
from ..params.adapters.peft.targets import is_saved, is_targeted, rank_of
from ..params.adapters.replaced_weight import Replacement, TokenRows
from ..params.errors import CheckpointError
from .default_configs import derived_config, with_ranks
from .peft_tensors import FIELDS, Parts
from .torch_modules import HEAD, TABLE, Module, Modules, Piece, host, modules_of, of_layer

_SAVED_ALONG = ("embed_tokens", "lm_head")
"""Tables that PEFT saves along with an adapter of theirs, by how `target_modules` call them."""


class Written(NamedTuple):
    """What is written of an adapter.

    Attributes:
        tensors: name, without PEFT's prefix -> array.
    """

    config: PeftConfig
    tensors: dict[str, np.ndarray]


def written_adapter(model: Model, params: fp.Params, name: str) -> Written:
    """Makes what PEFT's files have of the adapter `name` of params.

    Raises:
        CheckpointError: an adapter that PEFT has no form for.
    """
    parts, table = get_adapters(params, name), modules_of(model)
    for path, adapter in parts.items():
        if isinstance(adapter, Bank):
            raise CheckpointError(
                f"{path}: fp.stack_adapters put adapters side by side, and PEFT has no form for "
                "it; save the params that it was given"
            )
        if adapter.missing:
            raise CheckpointError(
                f"{path}: the adapter {name!r} has no {adapter.missing[0]}; "
                "fp.join_adapters(trained, rest) puts it back"
            )
    leaves = fp.flatten(params)
    config = next((x.config for x in parts.values() if x.config is not None), None)
    config = derived_config(model, parts, table) if config is None else config
    tensors: dict[str, np.ndarray] = {}
    ranks: dict[str, tuple[int, float]] = {}
    adapted = {path: x for path, x in parts.items() if type(x) in FIELDS}
    for module in table.modules.values():
        each = _pieces(module, adapted)
        if each and _is_adapted(module, each, config):
            one = Parts(module, each, config)
            fields, rank = FIELDS[type(each[0])](one)
            tensors |= {f"{module.name}.{field}": array for field, array in fields.items()}
            if rank and rank != rank_of(config, module.name):
                ranks[module.name] = rank, one.scale
            if _is_saved_along(module, config):
                base = leaves[module.pieces[0].path].base
                tensors[f"{module.name}.base_layer.weight"] = host(dense_of(base))
    tensors |= _tokens(parts, table, config)
    tensors |= _replaced(parts, table, config)
    return Written(with_ranks(config, ranks), tensors)


def _pieces(module: Module, parts: Mapping[str, Adapter]) -> list[Any]:
    """Returns the adapters of a module's pieces, on the host; [] if it has none. Refuses some of
    the pieces of a module that checkpoints have as one, without the others."""
    found = [of_layer(parts.get(piece.path), piece, module) for piece in module.pieces]
    there = [each for each in found if each is not None]
    if there and (len(there) < len(found) or len({type(each) for each in there}) > 1):
        odd = next(
            p.path
            for p, x in zip(module.pieces, found, strict=True)
            if type(x) is not type(there[0])
        )
        raise CheckpointError(
            f"{odd} is not adapted as the other leaves of {module.name}, which checkpoints have as "
            "one: PEFT has no form for it; nothing was written"
        )
    return there


def _is_adapted(module: Module, each: list[Any], config: PeftConfig) -> bool:
    """Tells whether a layer of a stack has an adapter at all."""
    return float(getattr(each[0], "scale", 0)) != 0 or is_targeted(config, module.name)


def _is_saved_along(module: Module, config: PeftConfig) -> bool:
    if module.kind not in (TABLE, HEAD) and not module.name.endswith("lm_head"):
        return False
    names = config.target_modules
    named = isinstance(names, tuple) and any(name in names for name in _SAVED_ALONG)
    return named and not config.trainable_token_indices


# --- tokens and replacements ---


def _tokens(
    parts: Mapping[str, Adapter], table: Modules, config: PeftConfig
) -> dict[str, np.ndarray]:
    field = "trainable_tokens_delta"
    if config.peft_type != "TRAINABLE_TOKENS":
        field = f"token_adapter.{field}"
    found = {}
    for module in table.modules.values():
        adapter = parts.get(module.pieces[0].path)
        if isinstance(adapter, TokenRows) and module.kind != HEAD:
            found[f"{module.name}.{field}"] = host(adapter.rows)
    return found


def _replaced(
    parts: Mapping[str, Adapter], table: Modules, config: PeftConfig
) -> dict[str, np.ndarray]:
    found = {}
    for name, (pieces, part) in table.tensors.items():
        each = [parts.get(piece.path) for piece in pieces]
        if not all(isinstance(x, Replacement) and x.part in (ALL, part) for x in each):
            continue
        module, _, field = name.rpartition(".")
        saved = bool(config.modules_to_save) and is_saved(config, module)
        targeted = not saved and is_targeted(config, module)
        if field == "bias" and config.bias == "lora_only" and not targeted and not saved:
            continue  # of a layer of a stack, in which others have it
        found[f"{module}.{'base_layer.' if targeted else ''}{field}"] = _tensor(pieces, each)
    return found


def _tensor(pieces: Sequence[Piece], each: Sequence[Any]) -> np.ndarray:
    """Puts a tensor of the base together of the leaves that hold it."""
    first = pieces[0].place
    whole = None
    for piece, adapter in zip(pieces, each, strict=True):
        value = host(adapter.value)
        value = value if piece.layer is None else value[piece.layer]
        value = value.transpose(np.argsort(piece.place.permutation))
        if first.part is None:
            return value
        whole = np.zeros(first.shape, value.dtype) if whole is None else whole
        index = [slice(None)] * len(first.shape)
        index[first.part.axis] = piece.columns  # type: ignore[call-overload]
        whole[tuple(index)] = value
    assert whole is not None
    return whole
