"""Initialising: every leaf of a template from a key of its own, which comes from its path."""

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..types import Leaf, PyTree
from .keys import one_key
from .layers import Run, numbered
from .naming import PLAIN, Naming
from .paths import flatten, unflatten


def initialize(template: PyTree, key: jax.Array, *, naming: Naming = PLAIN) -> PyTree:
    """Draws random params for a template, whose leaves say how they are drawn
    (`fs.AbstractParam.draw`).

    A leaf's key is made of `key` and its path alone, so a part of a template gets what the whole
    would give it, and layers the same whether they are stacked or not. Pure, to be traced; values
    are drawn in float32 and cast to the leaf's dtype.

    Args:
        template: abstract params, or a part of them.
        key: a `jax.random.key`.
        naming: tells which lists the leaves are stacked over, where there are numbers in paths
            beside those of layers.

    Raises:
        TypeError: a key that is none, such as a seed.
        ValueError: a leaf that does not say how it is drawn; several keys.
    """
    key, leaves = one_key(key), flatten(template)
    places = {path: _place(path, leaf, naming) for path, leaf in leaves.items()}
    keys = _keys(key, [place.folded for place in places.values()])
    drawn = {
        path: _drawn(leaves[path].draw, own, place.runs, place.shape).astype(leaves[path].dtype)
        for (path, place), own in zip(places.items(), keys, strict=True)
    }
    return unflatten(drawn)


class _Place(NamedTuple):
    """What a leaf's key is made of, and the shape that is drawn with it."""

    folded: tuple[int, ...]
    """Of its path, which is folded into the key first, and then the numbers up to a `Run`."""
    runs: tuple[int | Run, ...]
    shape: tuple[int, ...]


def _place(path: str, leaf: Leaf, naming: Naming) -> _Place:
    if getattr(leaf, "draw", None) is None:
        raise ValueError(f"{path}: the template's leaf {leaf!r:.80} does not say how it is drawn")
    parts = numbered(path, leaf, naming.lists, strict=False)
    names = [part for part in parts if isinstance(part, str) and not part.isdecimal()]
    numbers = [int(x) if isinstance(x, str) else x for x in parts if x not in names]
    first = next((i for i, x in enumerate(numbers) if isinstance(x, Run)), len(numbers))
    stacked = sum(isinstance(x, Run) for x in numbers)
    alone = [x for x in numbers[:first] if isinstance(x, int)]
    folded = (zlib.crc32("/".join(names).encode()), *alone)
    return _Place(folded, tuple(numbers[first:]), leaf.shape[stacked:])


def _keys(key: jax.Array, folded: Sequence[tuple[int, ...]]) -> list[jax.Array]:
    """Folds numbers into a key, one after another, for each leaf. All first ones are folded in at
    once, then all second ones: one by one they were half of the program that draws."""
    if not str(jax.random.key_impl(key)).startswith(("threefry", "rbg")):  # not the same at once
        return [functools.reduce(jax.random.fold_in, numbers, key) for numbers in folded]
    made: dict[tuple[int, ...], jax.Array] = {}
    keys = key[None]
    rows: dict[tuple[int, ...], int] = {(): 0}
    for depth in range(1, 1 + max(map(len, folded), default=0)):
        wanted = [*dict.fromkeys(numbers[:depth] for numbers in folded if len(numbers) >= depth)]
        before = keys[np.array([rows[numbers[:-1]] for numbers in wanted])]
        last = np.array([numbers[-1] for numbers in wanted], np.uint32)
        keys = jax.vmap(jax.random.fold_in)(before, last)
        rows = {numbers: row for row, numbers in enumerate(wanted)}
        ends = rows.keys() & {*folded}
        made |= {x: jax.lax.index_in_dim(keys, rows[x], keepdims=False) for x in ends}
    return [made[numbers] for numbers in folded]


def _drawn(
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array],
    key: jax.Array,
    numbers: Sequence[int | Run],
    shape: tuple[int, ...],
):
    """Draws with a key of all numbers of the path; for each `Run`, once for every one of its."""
    if not numbers:
        return draw(key, shape)
    first, *rest = numbers
    if isinstance(first, int):
        return _drawn(draw, jax.random.fold_in(key, first), rest, shape)
    each = jax.vmap(lambda number: _drawn(draw, jax.random.fold_in(key, number), rest, shape))
    return each(first.first + first.step * jnp.arange(first.length))
