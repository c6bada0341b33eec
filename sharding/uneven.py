"""What becomes of dimensions that do not divide over the mesh axes of their rule."""

import functools
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import KeyPath, tree_map_with_path

from .axes import PyTree, leaves_by_path, path_of
from .mesh import parts_of
from .presets import Rules, nearest
from .rules import first_wins

X = TypeVar("X")
Uneven: TypeAlias = str | tuple[tuple[str, str], ...]

CHOICES = ("refuse", "replicate", "pad")
UNPADDED = ("heads", "kv_heads")
"""Logical axes that are not padded: the shards would end inside of heads, and every layer would
gather them again."""


def as_uneven(value: object) -> Uneven:
    """Normalises `uneven`: one of `CHOICES`, or a mapping of logical axes to them, in which the
    axes that are not named are refused. "refuse" for None.

    Raises:
        TypeError: something else.
        ValueError: another choice, or an axis that cannot be padded.
    """
    if value is None:
        return "refuse"
    if isinstance(value, str):
        return _checked(value, "uneven")
    pairs = tuple(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, tuple) or not all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        raise TypeError(
            f"uneven is {value!r:.100}: expected one of {', '.join(CHOICES)}, or a mapping of "
            "logical axes to these"
        )
    choices = {axis: _checked(choice, f"uneven[{axis!r}]") for axis, choice in pairs}
    for axis in UNPADDED:
        if choices.get(axis) == "pad":
            raise ValueError(f"uneven[{axis!r}] is 'pad', and {not_padded(axis)}")
    return tuple(choices.items())


def _checked(choice: object, name: str) -> str:
    if choice not in CHOICES:
        raise ValueError(f"{name} is {choice!r:.80}; expected one of {', '.join(CHOICES)}")
    return str(choice)


def check_axes(uneven: Uneven, rules: Rules) -> None:
    """Raises `ValueError` if `uneven` names a logical axis that no rule names."""
    for axis, _ in () if isinstance(uneven, str) else uneven:
        _check_named("uneven", axis, rules)


def check_pieces(pieces: object, rules: Rules) -> None:
    """Refuses numbers of pieces that are none, or of logical axes that no rule names."""
    if not isinstance(pieces, Mapping | None):
        raise TypeError(f"pieces is {pieces!r:.80}; expected {{logical axis: number of pieces}}")
    for axis, count in (pieces or {}).items():
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise ValueError(f"pieces[{axis!r}] is {count!r:.80}; expected an int above 0")
        _check_named("pieces", axis, rules)


def _check_named(what: str, axis: str, rules: Rules) -> None:
    known = first_wins(rules)
    if axis not in known:
        raise ValueError(
            f"{what}: no rule names a logical axis {axis!r}{nearest(str(axis), known)}; there are "
            f"{', '.join(sorted(known))}"
        )


def choice_for(axis: str | None, uneven: Uneven) -> str:
    """Returns what becomes of a dimension with a logical axis that does not divide."""
    return uneven if isinstance(uneven, str) else dict(uneven).get(str(axis), "refuse")


def may_pad(uneven: Uneven) -> bool:
    """Tells whether some dimension may be padded."""
    return uneven == "pad" or (not isinstance(uneven, str) and "pad" in dict(uneven).values())


def not_padded(axis: str) -> str:
    """Returns why a logical axis is not padded, and what may be done instead."""
    return (
        f"{axis!r} is not padded: shards would end inside of heads, and every layer would gather "
        f"them; 'replicate' keeps these heads whole on each device, as does the rule "
        f"({axis!r}, None)"
    )


@functools.lru_cache(maxsize=64)
def growing(old: tuple[int, ...], shape: tuple[int, ...], sharding: NamedSharding):
    """Returns a program that puts zeros behind an array -> a larger shape, in a sharding."""
    widths = [(0, new - size) for new, size in zip(shape, old, strict=True)]
    return jax.jit(lambda x: jnp.pad(x, widths), out_shardings=sharding)


def cut(params: PyTree, template: PyTree) -> PyTree:
    """Takes the padding off the leaves of `params`: each becomes as large as in `template`.

    In a trace that moves nothing: the padding is at the end of the last shards. An array outside
    of one is copied, and split along another dimension that divides, or replicated.

    Args:
        params: a tree, or a part of it, whose leaves may have more rows than in `template`; as many
            as fill the shards, at most.
        template: tree of `AbstractParam` of the whole model, such as `model.abstract_params()`.
    """
    shapes = {path: leaf.shape for path, leaf in leaves_by_path(template).items()}

    def one(path: KeyPath, leaf: X) -> X | jax.Array:
        shape = shapes.get(path_of(path))
        return leaf if shape is None or not _is_padded(leaf, shape) else _cut(leaf, shape)

    return tree_map_with_path(one, params)


def _is_padded(leaf: object, shape: tuple[int, ...]) -> bool:
    """Tells whether a leaf is larger by less than the shards of its mesh: a row each at most."""
    own = getattr(leaf, "shape", shape)
    if own == shape or len(own) != len(shape):
        return False
    mesh = jax.typeof(leaf).sharding.mesh if isinstance(leaf, jax.Array) else None
    devices = jax.device_count() if mesh is None or mesh.empty else mesh.size
    return all(0 <= a - b < devices for a, b in zip(own, shape, strict=True))


def _cut(leaf: Any, shape: tuple[int, ...]) -> jax.Array:
    sharding = None if isinstance(leaf, Tracer) else getattr(leaf, "sharding", None)
    if not isinstance(sharding, NamedSharding):
        return leaf[tuple(map(slice, shape))]
    return _shrink(shape, dividing(sharding, shape))(leaf)


def dividing(sharding: NamedSharding, shape: tuple[int, ...]) -> NamedSharding:
    """Returns a sharding of `shape` that divides it: what does not divide goes to the first
    dimension that is whole and does, or is replicated."""
    mesh, entries = sharding.mesh, list(sharding.spec)
    entries += [None] * (len(shape) - len(entries))
    parts = [parts_of(entry, mesh) for entry in entries]
    for index, entry in enumerate(entries):
        if shape[index] % parts[index]:
            entries[index] = None
            for other, size in enumerate(shape):
                if other != index and entries[other] is None and size % parts[index] == 0:
                    entries[other] = entry
                    break
    return NamedSharding(mesh, PartitionSpec(*entries), memory_kind=sharding.memory_kind)


@functools.lru_cache(maxsize=64)
def _shrink(shape: tuple[int, ...], sharding: NamedSharding):
    return jax.jit(lambda x: x[tuple(map(slice, shape))], out_shardings=sharding)
