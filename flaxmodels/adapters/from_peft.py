"""Reading: the tensors of one of PEFT's adapters -> what changes each leaf of a model."""

import dataclasses

import jax
import numpy as np

from .. import params as fp
from ..core.model import Model
from ..params.adapters.adapted_weight import AdaptedWeight, base_of
from ..params.adapters.adapter import ALL, Adapter, Base, dense_of
from ..params.adapters.initial_values import placed
from ..params.adapters.peft.config import PeftConfig
from ..params.adapters.peft.targets import is_scaled_before, rank_of, scale_of
from ..params.adapters.peft.tensors import AdapterTensors
from ..params.adapters.replaced_weight import Replacement
from ..params.errors import CheckpointError, quoted
from ..params.formats import Tensor
from ..params.tree.paths import nearest
from .checks import aligned, check_places, check_saved, check_targets
from .module_tensors import Fields, Stack
from .peft_methods import METHODS, TOKENS, token_rows
from .torch_modules import Modules, Piece, modules_of


def read_adapters(
    model: Model, params: fp.Params, tensors: AdapterTensors, config: PeftConfig
) -> tuple[fp.Params, dict[str, Adapter]]:
    """Makes what changes the leaves of a model of the tensors of an adapter.

    Returns:
        (params, {path of a leaf: its adapter}). The params are those that were given, but for
        tables that the adapter was saved with and that differ.

    Raises:
        CheckpointError: an adapter of another base or configuration; tensors that are missing, or
            left over; with the file, the tensor, what is expected and what to do.
        ValueError: params that have no such leaf.
    """
    table = modules_of(model)
    tensors = aligned(tensors, table, model)
    check_targets(tensors, table, config)
    check_saved(tensors, table, config)
    leaves = fp.flatten(params)
    sites: dict[str, list[tuple[Piece, Fields]]] = {}
    for name, found in tensors.fields.items():
        module = table.modules[name]
        rank, scale = rank_of(config, name), scale_of(config, name)
        before = is_scaled_before(config, name)
        fields = Fields(tensors.where, module, found, rank, scale, before)
        for piece in module.pieces:
            sites.setdefault(piece.path, []).append((piece, fields))
    whole = [piece.path for name in tensors.replaced for piece in table.tensors[name][0]]
    if gone := [path for path in (*sites, *whole) if path not in leaves]:
        raise ValueError(
            f"{tensors.where}: adapts {gone[0]}, which the params do not have"
            f"{nearest(gone[0], leaves)}: are they those of this model?"
        )
    check_places({path: leaves[path] for path in (*sites, *whole)}, tensors.where)
    made = {path: _leaf_adapter(path, leaves[path], each, config) for path, each in sites.items()}
    leaves, replaced = _replaced(leaves, tensors, table)
    if both := sorted(made.keys() & replaced.keys()):
        raise CheckpointError(
            f"{tensors.where}: {both[0]} is adapted, and replaced as a whole; one adapter does one"
        )
    return fp.unflatten(leaves), made | replaced


def _leaf_adapter(
    path: str, leaf: Base, sites: list[tuple[Piece, Fields]], config: PeftConfig
) -> Adapter:
    """Makes the adapter of one leaf; of one that serves a table and a tied head, for both if they
    have the same."""
    by_part: dict[str, dict[int | None, tuple[Piece, Fields]]] = {}
    for piece, fields in sites:
        by_part.setdefault(fields.module.part, {})[piece.layer] = piece, fields
    found: dict[str, Adapter] = {}
    for part, each in by_part.items():
        first = next(iter(each.values()))
        if any(name in first[1].tensors for name in TOKENS):
            found[part] = token_rows(leaf, first, config)
        else:
            adapter = METHODS[config.peft_type](Stack(leaf, each), config)
            found[part] = dataclasses.replace(adapter, part=part)
    return _one_of_both(path, found, sites[0][1].where)


def _one_of_both(path: str, by_part: dict[str, Adapter], where: str) -> Adapter:
    """Returns one adapter for a table and the head that is tied to it, if both have the same."""
    first, *others = by_part.values()
    for other in others:
        arrays, theirs = jax.tree.leaves(first), jax.tree.leaves(other)
        is_alike = type(first) is type(other) and len(arrays) == len(theirs)
        if not is_alike or not all(map(np.array_equal, arrays, theirs)):
            raise CheckpointError(
                f"{where}: {path} is the table of tokens and, tied to it, the head, and each has "
                "an update of its own, or is replaced by another; merge the adapter with peft's "
                "merge_and_unload(), which unties them, and save that"
            )
    return dataclasses.replace(first, part=ALL) if others else first


# --- what is replaced ---


def _replaced(
    leaves: fp.Params, tensors: AdapterTensors, table: Modules
) -> tuple[fp.Params, dict[str, Adapter]]:
    """Makes replacements of leaves. A table that is adapted and saved along is the base's own, or
    takes its place there."""
    values: dict[tuple[str, str], dict[int | None, np.ndarray]] = {}
    leaves = dict(leaves)
    for name, tensor in tensors.replaced.items():
        pieces, part = table.tensors[name]
        for piece in pieces:
            array = _piece_of(tensor, piece, tensors.where)
            if name.removesuffix(".weight") in tensors.fields:
                leaves[piece.path] = _with_base(leaves[piece.path], array)
            else:
                values.setdefault((piece.path, part), {})[piece.layer] = array
    made: dict[str, dict[str, Adapter]] = {}
    for (path, part), found in values.items():
        base = base_of(leaves[path])
        if (whole := found.get(None)) is None:
            whole = np.array(dense_of(base))
            for layer, array in found.items():
                whole[layer] = array
        made.setdefault(path, {})[part] = Replacement(_placed(whole, base), part=part)
    return leaves, {path: _one_of_both(path, x, tensors.where) for path, x in made.items()}


def _piece_of(tensor: Tensor, piece: Piece, where: str) -> np.ndarray:
    place = piece.place
    if tensor.shape != place.shape:
        more = (
            "; of a vocabulary that has grown, model.resize_token_embeddings(params, "
            f"{tensor.shape[0]}) first; of other labels, load with num_labels={tensor.shape[0]}"
            if tensor.shape[1:] == place.shape[1:]
            else ""
        )
        raise CheckpointError(
            f"{where}: {quoted(tensor.name)} takes the place of a tensor of the base, and has "
            f"shape {tensor.shape}, and that {place.shape}: the adapter is of another base{more}"
        )
    array = tensor.read()
    if place.part is not None:
        array = np.take(array, np.asarray(piece.columns), axis=place.part.axis)
    return array.transpose(place.permutation)


def _with_base(leaf: Base, array: np.ndarray) -> Base:
    """Returns a leaf whose base is a table out of the file, where it differs."""
    base = base_of(leaf)
    if np.array_equal(np.asarray(dense_of(base)).astype(array.dtype), array):
        return leaf
    new = _placed(array, base).astype(base.dtype)
    return leaf.replace(base=new) if isinstance(leaf, AdaptedWeight) else new


def _placed(array: np.ndarray, base: Base) -> jax.Array:
    """Puts what takes the place of a weight where that is."""
    return placed(array, base, tuple(range(-array.ndim, 0)))
