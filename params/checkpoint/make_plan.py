"""Planning: what becomes of each leaf of a load, decided before a byte of weights is read."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AbstractMesh

from ..errors import CheckpointError
from ..host.threads import default_sharding
from ..tree.cast import DtypeLike, check_patterns, dtype_for
from ..tree.paths import flatten, nearest
from ..types import PyTree
from . import host_memory
from .device.routes import Way, limits_of, route_of
from .leaf_plan import LeafPlan
from .load_plan import LoadPlan
from .match import Match, Piece
from .packed_leaf import PackedLeaf, decoded, is_kept_packed, packed_leaf


def make_plan(
    match: Match,
    template: PyTree,
    *,
    dtype: DtypeLike | Mapping[str, DtypeLike] = "auto",
    shardings: PyTree = None,
    max_host_memory: int | str = host_memory.DEFAULT,
    route: Way = "auto",
    keep_packed: bool = False,
) -> LoadPlan:
    """Decides dtype, place, order and way of every leaf that `match` found.

    Args:
        template: the tree of abstract leaves that `match` was made with.
        dtype: "auto" (as stored), a dtype or its name, or an ordered `{pattern: dtype}`.
        shardings: tree of `jax.sharding.Sharding` like `template`, one sharding for all, or None:
            the default device.
        max_host_memory: bytes, or a string such as "1GiB"; at least 1 MiB.
        route: who transposes and casts: "host", "device", or "auto": devices; of CPU devices the
            host, but where several processes would read the same bytes.
        keep_packed: quantised weights stay so; else their numbers are read.

    Raises:
        CheckpointError: pieces of one leaf that differ in dtype, or in how they are quantised.
        TypeError: shardings that are none.
        ValueError: an unknown dtype, shardings that do not fit, or a budget that is too small.
    """
    max_host_memory = host_memory.checked_limit(max_host_memory)
    limits = limits_of(max_host_memory)
    where = _shardings(shardings, template)
    check_patterns("param_dtype", dtype, flatten(template))
    leaves: list[LeafPlan] = []
    packed: list[PackedLeaf] = []
    for path, leaf in flatten(template).items():
        if path not in match.found:
            continue
        pieces = match.found[path]
        is_kept = keep_packed and is_kept_packed(path, pieces, match.source.where)
        stored = _stored_dtype(path, pieces, match.source.where, is_packed=is_kept)
        final = jax.dtypes.canonicalize_dtype(dtype_for(dtype, path, stored))
        plan = LeafPlan(path, leaf.shape, stored, final, where[path], pieces, shardings is not None)
        if is_kept:
            packed.append(packed_leaf(plan, match.source.where))
            leaves += packed[-1].arrays
        else:
            leaves.append(decoded(plan))
    leaves = [dataclasses.replace(leaf, route=route_of(leaf, route, limits)) for leaf in leaves]
    leaves.sort(key=lambda leaf: leaf.pieces[0].tensor.position)
    return LoadPlan(
        tuple(leaves),
        match,
        max_host_memory,
        limits,
        way=route,
        packed={leaf.path: leaf.form for leaf in packed},
        replicated=tuple(note for leaf in packed for note in leaf.notes),
    )


def _stored_dtype(path: str, pieces: tuple[Piece, ...], where: str, *, is_packed: bool) -> np.dtype:
    dtypes = {piece.tensor.dtype for piece in pieces}
    if len(dtypes) > 1 and not is_packed:
        raise CheckpointError(
            f"{where}: the layers of {path} have different dtypes: "
            f"{', '.join(sorted(map(str, dtypes)))}; load with scan_layers=False"
        )
    return pieces[0].tensor.dtype


def check_shardings(shardings: PyTree, *, abstract: bool = False) -> None:
    """Refuses what is no sharding, or, unless `abstract`, one without devices.

    Raises:
        TypeError: with the path.
    """
    for path, sharding in flatten(shardings).items():
        where = f"shardings at {path}" if path else "shardings"
        if not isinstance(sharding, jax.sharding.Sharding):
            raise TypeError(
                f"{where}: {sharding!r:.80} is a {type(sharding).__name__}; expected a "
                "jax.sharding.Sharding, such as NamedSharding(mesh, spec), or a tree of them"
            )
        if not abstract and isinstance(getattr(sharding, "mesh", None), AbstractMesh):
            raise TypeError(f"{where}: the mesh is abstract and has no devices")


def _shardings(shardings: PyTree, template: PyTree) -> dict[str, jax.sharding.Sharding]:
    leaves = flatten(template)
    if shardings is None:
        return dict.fromkeys(leaves, default_sharding())
    check_shardings(shardings, abstract=True)  # enough for a plan that nobody loads by
    alone = isinstance(shardings, jax.sharding.Sharding)
    found = dict.fromkeys(leaves, shardings) if alone else flatten(shardings)
    if lost := sorted(leaves.keys() - found.keys()):
        raise ValueError(f"shardings have no entry for {lost[0]}{nearest(lost[0], found)}")
    for path, leaf in leaves.items():
        try:
            found[path].shard_shape(leaf.shape)
        except (ValueError, IndexError) as error:
            why = error if isinstance(error, ValueError) else "the spec has more entries than axes"
            raise ValueError(
                f"{path} of shape {leaf.shape} cannot be placed by {found[path]}: {why}"
            ) from None
    return found
