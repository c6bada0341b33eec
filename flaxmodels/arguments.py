"""The arguments of a call: arrays apart from what a program is compiled for."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

ARRAYS = jax.Array | jax.ShapeDtypeStruct | np.ndarray


def split(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """(the arrays of a tree, what puts others in their places).

    >>> arrays, rebuild = split({"x": np.zeros(2), "deep": True})
    >>> rebuild(["y"])
    {'deep': True, 'x': 'y'}
    """
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, ARRAYS)]

    def rebuild(arrays: list[Any]) -> Any:
        given = dict(zip(places, arrays, strict=True))
        return jax.tree.unflatten(structure, [given.get(i, x) for i, x in enumerate(leaves)])

    return [leaves[i] for i in places], rebuild


def abstract(array: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype alone."""
    return jax.ShapeDtypeStruct(array.shape, array.dtype)
