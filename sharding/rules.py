"""Rules: logical axes -> mesh axes, for parameters and for activations."""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import keystr, tree_map_with_path

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]

DEFAULT_RULES: Rules = (
    ("vocab", "tensor"),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("embed", "fsdp"),
    ("layers", None),
    ("position", None),
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
rule of an axis wins: change one with `(("vocab", None), *DEFAULT_RULES)`."""


def shardings(template: Any, mesh: Mesh, rules: Rules = DEFAULT_RULES) -> Any:
    """The tree of `NamedSharding` in which `template`'s parameters live on `mesh`.

    Args:
        template: tree of `AbstractParam`, such as `model.abstract_params()`.

    Raises:
        ValueError: a leaf without axes, an axis without a rule, two dimensions of a leaf on one
            mesh axis, or a dimension that the mesh axes do not divide; with the leaf's path.
    """

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
    axes: tuple[str | None, ...], shape: tuple[int, ...], mesh: Any, rules: Rules, *, name: str = ""
) -> PartitionSpec:
    """The spec of one array, one entry per dimension; raises as `shardings` does."""
    table = _first_wins(rules)
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


def constrain(x: jax.Array, axes: tuple[str | None, ...], rules: Rules) -> jax.Array:
    """`x` with a sharding hint for the compiler: its logical `axes`, by `rules`.

    The mesh is the one that `x`'s own tracer carries (it comes from the params), so nothing has
    to be set around the call; without a mesh, or with explicit axes, `x` is returned as it is.
    A dimension that does not divide is left to the compiler: a hint must not refuse a batch of 1.
    """
    mesh = jax.typeof(x).sharding.mesh
    if mesh.empty or not mesh.are_all_axes_auto:
        return x
    table, free, entries = _first_wins(rules), set(mesh.axis_names), []
    for axis, size in zip(axes, x.shape, strict=True):
        chosen = () if axis is None else _mesh_axes(axis, table, mesh, "activation")
        chosen = tuple(name for name in chosen if name in free)
        if size % _parts(chosen, mesh):
            chosen = ()
        free -= set(chosen)
        entries.append(chosen or None)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*entries)))


def _first_wins(rules: Rules) -> dict[str, str | tuple[str, ...] | None]:
    return dict(reversed(rules))


def _mesh_axes(axis: str, table: dict, mesh: Any, name: str) -> tuple[str, ...]:
    if axis not in table:
        known = ", ".join(sorted(table))
        raise ValueError(
            f"{name}: no rule for logical axis {axis!r} (there are rules for {known}); add "
            f"({axis!r}, None) to replicate it"
        )
    rule = table[axis]
    rule = () if rule is None else (rule,) if isinstance(rule, str) else tuple(rule)
    return tuple(mesh_axis for mesh_axis in rule if mesh_axis in mesh.axis_names)


def _parts(mesh_axes: tuple[str, ...], mesh: Any) -> int:
    parts = 1
    for mesh_axis in mesh_axes:
        parts *= mesh.shape[mesh_axis]
    return parts
