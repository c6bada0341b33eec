"""Rules: logical axes -> mesh axes, of parameters and of activations."""

import difflib
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import keystr, tree_map_with_path

from .mesh import check_mesh

PyTree: TypeAlias = Any

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]

DEFAULT_RULES: Rules = (
    ("vocab", "tensor"),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("embed", "fsdp"),
    ("layers", None),
    ("position", None),
    ("window", None),
    ("norm", None),
    ("labels", None),
    # activations
    ("batch", ("data", "fsdp")),
    ("length", None),
    ("hidden", None),
)
"""Ordered (logical axis, mesh axis or axes): tensor parallelism over what is computed side by
side, fully sharded data parallelism over the model dimension. A mesh axis that the mesh does not
have counts as absent, so that the same rules serve `make_mesh(fsdp=-1)` and a full pod. The first
rule of an axis wins: change one with `(("vocab", None), *DEFAULT_RULES)`. `default_rules` renames
the mesh axes."""

_USUAL = {
    "data": ("dp", "batch", "replica", "data_parallel"),
    "fsdp": ("zero", "shard", "sharded", "fully_sharded"),
    "tensor": ("tp", "mp", "model", "tensor_parallel", "model_parallel"),
}
"""A mesh axis of `DEFAULT_RULES` -> what others call it."""


def default_rules(**names: str) -> Rules:
    """Returns `DEFAULT_RULES` for a mesh whose axes have other names.

    >>> default_rules(tensor="model")[0]
    ('vocab', 'model')

    Args:
        **names: of the mesh axes data, fsdp and tensor. Two may be one:
            `default_rules(fsdp="data")` shards params and batch over the same axis.

    Raises:
        TypeError: another keyword.
    """
    if odd := sorted(set(names) - set(_USUAL)):
        raise TypeError(f"default_rules names the axes {', '.join(_USUAL)}; got {', '.join(odd)}")

    def renamed(target: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if isinstance(target, tuple):
            return tuple(dict.fromkeys(names.get(name, name) for name in target))
        return None if target is None else names.get(target, target)

    return tuple((axis, renamed(target)) for axis, target in DEFAULT_RULES)


def as_rules(rules: object) -> Rules:
    """Normalises rules: pairs in any list or mapping; `DEFAULT_RULES` for None.

    Raises:
        TypeError: not (logical axis, mesh axis or several in a list or None); with the rule.
        ValueError: a rule that names a mesh axis twice.
    """
    if rules is None:
        return DEFAULT_RULES
    pairs = rules.items() if isinstance(rules, Mapping) else rules
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise TypeError(f"rules is {rules!r:.100}: expected pairs (logical axis, mesh axis)")
    return tuple(_rule(pair) for pair in pairs)


def _rule(pair: object) -> tuple[str, str | tuple[str, ...] | None]:
    if isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str):
        axis, target = pair
        if target is None or isinstance(target, str):
            return axis, target
        if isinstance(target, tuple | list) and all(isinstance(name, str) for name in target):
            if len(set(target)) < len(target):
                raise ValueError(f"rules: {pair!r:.100} names a mesh axis twice")
            return axis, tuple(target)
    raise TypeError(
        f"rules: {pair!r:.100} is no rule; expected (logical axis, mesh axis), such as "
        '("vocab", "tensor"), with None, or several mesh axes in a tuple, in its second place'
    )


def check_rules(rules: object, template: object, mesh: Mesh | AbstractMesh | None = None) -> None:
    """Refuses rules that act on nothing, and a mesh with axes that they leave unused.

    Args:
        template: tree of `AbstractParam`; a rule must name a logical axis of it, or one of
            `DEFAULT_RULES`.
        mesh: every axis of it that is longer than 1 must be named by a rule, and a rule's mesh
            axis must be on it, or one of `DEFAULT_RULES`.

    Raises:
        ValueError: with the nearest name, or the rules that would do.
    """
    rules = as_rules(rules)
    logical = {axis for axis, _ in DEFAULT_RULES}
    for leaf in jax.tree.leaves(template):
        logical |= {axis for axis in getattr(leaf, "axes", None) or () if axis is not None}
    for axis, _ in rules:
        if axis not in logical:
            raise ValueError(
                f"rules: no parameter and no activation has a logical axis {axis!r}"
                f"{_nearest(axis, logical)}; there are {', '.join(sorted(logical))}"
            )
    if mesh is None:
        return
    for axis, target in rules:
        for name in _names(target):
            if name not in mesh.axis_names and name not in _USUAL:
                raise ValueError(
                    f"rules: ({axis!r}, {target!r}) names mesh axis {name!r}"
                    f"{_nearest(name, mesh.axis_names)}; the mesh has "
                    f"{', '.join(mesh.axis_names)}; an axis that it may do without has size 1"
                )
    named = {name for _, target in rules for name in _names(target)}
    unused = [name for name, size in mesh.shape.items() if size > 1 and name not in named]
    if unused:
        raise ValueError(
            f"no rule names the mesh axes {', '.join(map(repr, unused))}: every param would be "
            f"whole on each of their devices. {_remedy(unused, mesh)}"
        )


def _remedy(unused: list[str], mesh: Mesh | AbstractMesh) -> str:
    """Returns what to write so that these axes of a mesh are used."""
    usual = {
        kind: name
        for name in unused
        for kind, others in _USUAL.items()
        if name.lower() in others and kind not in mesh.axis_names
    }
    if len(usual) == len(unused):
        called = ", ".join(f"{kind}={name!r}" for kind, name in usual.items())
        names = {name: kind for kind, name in usual.items()}
        sizes = ", ".join(f"{names.get(name, name)}={n}" for name, n in mesh.shape.items())
        return (
            f"Give rules=flaxmodels.sharding.default_rules({called}), or call them as the rules "
            f"do: flaxmodels.sharding.make_mesh({sizes})"
        )
    batch = tuple(name for name in mesh.axis_names if name in ("data", "fsdp") or name in unused)
    return (
        "If that is what is wanted, and the batch is split over them, give "
        f'rules=(("batch", {batch!r}), *flaxmodels.sharding.DEFAULT_RULES); else add rules that '
        "put a logical axis on them"
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (nearest: {close[0]!r})" if close else ""


def _names(target: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if target is None else (target,) if isinstance(target, str) else target


def shardings(template: object, mesh: Mesh | AbstractMesh, rules: object = DEFAULT_RULES) -> PyTree:
    """Returns the tree of `NamedSharding` in which `template`'s parameters live on `mesh`.

    Args:
        template: tree of `AbstractParam`, such as `model.abstract_params()`.
        mesh: of Auto axes (`make_mesh`); an abstract one will do.
        rules: as `as_rules` takes them.

    Raises:
        TypeError: no mesh, or no rules.
        ValueError: what `check_mesh` and `check_rules` refuse; a leaf without axes, an axis without
            a rule, two dimensions of a leaf on one mesh axis, or a dimension that the mesh axes do
            not divide; with the leaf's path.
    """
    check_mesh(mesh, abstract=True)
    rules = as_rules(rules)
    check_rules(rules, template, mesh)

    def place(path, leaf) -> NamedSharding:
        name = keystr(path, simple=True, separator="/")
        axes = getattr(leaf, "axes", None)
        if axes is None:
            raise ValueError(
                f"{name}: {type(leaf).__name__} has no logical axes; pass model.abstract_params()"
            )
        return NamedSharding(mesh, partition_spec(axes, leaf.shape, mesh, rules, name=name))

    return tree_map_with_path(place, template)


def partition_spec(
    axes: tuple[str | None, ...],
    shape: tuple[int, ...],
    mesh: Mesh | AbstractMesh,
    rules: object,
    *,
    name: str = "",
) -> PartitionSpec:
    """Returns the spec of one array, one entry per dimension; raises as `shardings` does."""
    table = _first_wins(as_rules(rules))
    taken: dict[str, str] = {}
    entries = []
    for axis, size in zip(axes, shape, strict=True):
        chosen = () if axis is None else _mesh_axes(axis, table, mesh, name)
        for mesh_axis in chosen:
            if mesh_axis in taken:
                raise ValueError(
                    f"{name}: logical axes {taken[mesh_axis]!r} and {axis!r} are both on mesh axis "
                    f"{mesh_axis!r}; give one of them another rule (or None to replicate it)"
                )
            taken[mesh_axis] = str(axis)
        parts = _parts(chosen, mesh)
        if size % parts:
            raise ValueError(
                f"{name}: dimension {axis!r} of size {size} (shape {tuple(shape)}) does not divide "
                f"over mesh axes {chosen} of size {parts}; choose another mesh, or replicate it "
                f"with the rule ({axis!r}, None)"
            )
        entries.append(chosen[0] if len(chosen) == 1 else chosen or None)
    return PartitionSpec(*entries)


def constrain(x: jax.Array, axes: tuple[str | None, ...], rules: object) -> jax.Array:
    """Gives the compiler a hint of how `x` is sharded: its logical `axes`, by `rules`.

    The mesh is the one that the tracer of `x` carries (it comes from the params), so nothing has
    to be set around the call; without a mesh, or with explicit axes, `x` is returned unchanged.
    A dimension that does not divide is left to the compiler: a hint must not refuse a batch of 1.
    """
    mesh = jax.typeof(x).sharding.mesh
    if mesh.empty or not mesh.are_all_axes_auto:
        return x
    table, free, entries = _first_wins(as_rules(rules)), set(mesh.axis_names), []
    for axis, size in zip(axes, x.shape, strict=True):
        chosen = () if axis is None else _mesh_axes(axis, table, mesh, "activation")
        chosen = tuple(name for name in chosen if name in free)
        if size % _parts(chosen, mesh):
            chosen = ()
        free -= set(chosen)
        entries.append(chosen or None)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*entries)))


@functools.lru_cache(maxsize=64)
def _first_wins(rules: Rules) -> dict[str, str | tuple[str, ...] | None]:
    return dict(reversed(rules))


def _mesh_axes(axis: str, table: dict, mesh: Mesh | AbstractMesh, name: str) -> tuple[str, ...]:
    if axis not in table:
        known = ", ".join(sorted(table))
        raise ValueError(
            f"{name}: no rule for logical axis {axis!r} (there are rules for {known}); add "
            f"({axis!r}, None) to replicate it"
        )
    return tuple(mesh_axis for mesh_axis in _names(table[axis]) if mesh_axis in mesh.axis_names)


def _parts(mesh_axes: tuple[str, ...], mesh: Mesh | AbstractMesh) -> int:
    return math.prod(mesh.shape[name] for name in mesh_axes)
