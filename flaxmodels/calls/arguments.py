"""The arguments of a call: arrays, apart from what a program is compiled for."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import numpy as np

from ..params import PyTree

Arrays: TypeAlias = jax.Array | jax.ShapeDtypeStruct | np.ndarray


def split(tree: PyTree) -> tuple[list[Arrays], Callable[[Sequence[object]], PyTree]]:
    """Returns (the arrays of a tree, the function that puts others in their places).

    >>> arrays, rebuild = split({"x": np.zeros(2), "deep": True})
    >>> rebuild(["y"])
    {'deep': True, 'x': 'y'}
    """
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Arrays)]

    def rebuild(arrays: Sequence[object]) -> PyTree:
        given = dict(zip(places, arrays, strict=True))
        return jax.tree.unflatten(structure, [given.get(i, x) for i, x in enumerate(leaves)])

    return [leaves[i] for i in places], rebuild


def abstract(array: Arrays) -> jax.ShapeDtypeStruct:
    """Returns shape and dtype alone."""
    return jax.ShapeDtypeStruct(array.shape, array.dtype)
