"""Constraints of activations: hints for the compiler, by the rules of logical axes."""

import jax
from jax.sharding import NamedSharding, PartitionSpec

from .mesh import on_mesh, parts_of
from .rules import as_rules, target_of

_UNEVEN = "vocab"  # logits stay split: whole, they would be the largest array of a training step
_constrained = jax.jit(jax.lax.with_sharding_constraint, static_argnums=1)


def constrain(x: jax.Array, axes: tuple[str | None, ...], rules: object) -> jax.Array:
    """Gives the compiler a hint of how `x` is sharded: its logical `axes`, by `rules`.

    The mesh is the one that the tracer of `x` carries (it comes from the params), so nothing has
    to be set around the call; without a mesh, or with explicit axes, `x` is returned unchanged.
    A dimension that does not divide is whole: a hint must not refuse a batch of 1. Only logits are
    split unevenly. Of two dimensions on one mesh axis the first one that divides has it.

    Args:
        axes: "batch", "length", "hidden", "heads", "kv_heads", "mlp", "vocab"; "residual_length":
            the tokens of what is between the products of blocks, for which the rule of "length"
            counts if there is no other; "cache_heads", for which that of "kv_heads" counts, and
            "cache_length", of a cache, whole if there is no rule.
    """
    split = activation_axes(x, axes, rules)
    if split is None:
        return x
    mesh = jax.typeof(x).sharding.mesh
    uneven = any(size % parts_of(names, mesh) for names, size in zip(split, x.shape, strict=True))
    sharding = NamedSharding(mesh, PartitionSpec(*(names or None for names in split)))
    if uneven:  # outside of jit, as in an eager gradient, only a program may hold such shards
        return _constrained(x, sharding)
    return jax.lax.with_sharding_constraint(x, sharding)


def activation_axes(
    x: jax.Array, axes: tuple[str | None, ...], rules: object
) -> tuple[tuple[str, ...], ...] | None:
    """Returns the mesh axes over which `constrain` asks for each dimension to be split; None where
    it asks for nothing."""
    mesh = jax.typeof(x).sharding.mesh
    if mesh.empty or not mesh.are_all_axes_auto:
        return None
    if len(axes) != x.ndim:
        raise ValueError(f"axes {axes} name {len(axes)} dimensions, and the shape is {x.shape}")
    rules, free, entries = as_rules(rules), set(mesh.axis_names), []
    for axis, size in zip(axes, x.shape, strict=True):
        target = None if axis is None else target_of(axis, rules, "activation")
        chosen = tuple(name for name in on_mesh(target, mesh) if name in free)
        if size % parts_of(chosen, mesh) and axis != _UNEVEN:
            chosen = ()
        free -= set(chosen)
        entries.append(chosen)
    return tuple(entries)


def length_axes(x: jax.Array, rules: object) -> tuple[str, ...]:
    """Returns the axes of the mesh of x, longer than 1, over which `rules` split the length of
    activations; () where they do not."""
    mesh = jax.typeof(x).sharding.mesh
    if mesh.empty or not mesh.are_all_axes_auto:
        return ()
    axes = on_mesh(target_of("length", as_rules(rules), "activation"), mesh)
    return tuple(axis for axis in axes if mesh.shape[axis] > 1)
