"""Initialising: every leaf of a template from a key of its own, which comes from its path."""

import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from ..types import PyTree
from .naming import is_stacked
from .paths import flatten, unflatten


def initialize(template: PyTree, key: jax.Array) -> PyTree:
    """Draws random params for a template, whose leaves say how they are drawn
    (`fs.AbstractParam.draw`).

    A leaf's key is made of `key` and its path alone, so a part of a template gets what the whole
    would give it, and layers the same whether they are stacked or not. Pure, to be traced; values
    are drawn in float32 and cast to the leaf's dtype.

    Args:
        template: abstract params, or a part of them.
        key: a `jax.random.key`.

    Raises:
        ValueError: a leaf that does not say how it is drawn.
    """
    leaves = flatten(template)
    return unflatten({path: _leaf(path, leaf, key) for path, leaf in leaves.items()})


def _leaf(path: str, leaf: Any, key: jax.Array) -> jax.Array:
    draw = getattr(leaf, "draw", None)
    if draw is None:
        raise ValueError(f"{path}: the template's leaf {leaf} does not say how it is drawn")
    names = path.split("/")
    key = jax.random.fold_in(
        key, zlib.crc32("/".join(n for n in names if not n.isdecimal()).encode())
    )
    for index in (int(name) for name in names if name.isdecimal()):
        key = jax.random.fold_in(key, index)
    if not is_stacked(leaf):
        return draw(key, leaf.shape).astype(leaf.dtype)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(leaf.shape[0]))
    return jax.vmap(lambda key: draw(key, leaf.shape[1:]))(keys).astype(leaf.dtype)
