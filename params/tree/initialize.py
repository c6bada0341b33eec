"""Initialising: every leaf of a template from a key of its own, which comes from its path."""

import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

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
    return unflatten({path: _leaf(path, leaf, key, naming) for path, leaf in leaves.items()})


def _leaf(path: str, leaf: Leaf, key: jax.Array, naming: Naming) -> jax.Array:
    draw = getattr(leaf, "draw", None)
    if draw is None:
        raise ValueError(f"{path}: the template's leaf {leaf!r:.80} does not say how it is drawn")
    parts = numbered(path, leaf, naming.lists, strict=False)
    names = [part for part in parts if isinstance(part, str) and not part.isdecimal()]
    numbers = [int(x) if isinstance(x, str) else x for x in parts if x not in names]
    key = jax.random.fold_in(key, zlib.crc32("/".join(names).encode()))
    stacked = sum(isinstance(x, Run) for x in numbers)
    return _drawn(draw, key, numbers, leaf.shape[stacked:]).astype(leaf.dtype)


def _drawn(
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array],
    key: jax.Array,
    numbers: list[int | Run],
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
