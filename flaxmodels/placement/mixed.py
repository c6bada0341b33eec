"""Pytrees of arrays and of values that are none, as programs take and return them."""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple, Self, TypeAlias

import jax
import numpy as np

from ..params.checkpoint.disk_leaf import DiskLeaf
from ..params.types import PyTree

Array: TypeAlias = jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct
Static: TypeAlias = tuple[jax.tree_util.PyTreeDef, tuple[Hashable, ...]]
"""The structure of a pytree, and its leaves, with a mark in the place of each array."""

_ARRAY = object()
"""Stands for an array among values that are none."""


@jax.tree_util.register_pytree_node_class
class Mixed:
    """A pytree of arrays and of values that are none, which programs take and return: these are
    static then, part of what is compiled.

    Attributes:
        arrays: its leaves that are arrays.
    """

    def __init__(self, arrays: tuple[Array, ...], static: Static):
        self.arrays = arrays
        self._static = static

    @classmethod
    def of(cls, tree: PyTree) -> Self:
        leaves, structure = jax.tree.flatten(tree)
        kinds = jax.Array | np.ndarray | np.generic
        arrays = tuple(leaf for leaf in leaves if isinstance(leaf, kinds))
        others = tuple(_ARRAY if isinstance(leaf, kinds) else leaf for leaf in leaves)
        return cls(arrays, (structure, others))

    @property
    def tree(self) -> PyTree:
        """The pytree that it is made of."""
        structure, others = self._static
        arrays = iter(self.arrays)
        return structure.unflatten([next(arrays) if x is _ARRAY else x for x in others])

    def at(self, device: jax.Device) -> Self:
        """Returns it with its arrays on a device."""
        return type(self)(tuple(jax.device_put(self.arrays, device)), self._static)

    @property
    def abstract(self) -> "Abstract":
        """Its shapes and dtypes, as programs are told of them, as a value."""
        types = map(jax.typeof, self.arrays)  # int64 of NumPy is int32 there
        return Abstract(tuple((x.shape, np.dtype(x.dtype)) for x in types), self._static)

    def tree_flatten(self) -> tuple[tuple[Array, ...], Static]:
        return self.arrays, self._static

    @classmethod
    def tree_unflatten(cls, static: Static, arrays: Any) -> Self:
        return cls(tuple(arrays), static)


class Abstract(NamedTuple):
    """What a `Mixed` is but for the numbers in its arrays."""

    shapes: tuple[tuple[tuple[int, ...], np.dtype], ...]
    static: Static

    @property
    def mixed(self) -> Mixed:
        return Mixed(tuple(jax.ShapeDtypeStruct(*shape) for shape in self.shapes), self.static)


def abstract_leaves(leaves: Mapping[str, Array | DiskLeaf]) -> Abstract:
    """Returns the shapes and dtypes of {path: leaf}, as programs are told of them."""
    ordered = [leaves[path] for path in sorted(leaves)]
    shapes = tuple((tuple(leaf.shape), np.dtype(leaf.dtype)) for leaf in ordered)
    structure = jax.tree.structure(dict.fromkeys(leaves, 0))
    return Abstract(shapes, (structure, (_ARRAY,) * len(shapes)))


def abstract_array(shape: tuple[int, ...], dtype: np.dtype, tree: PyTree) -> Abstract:
    """Returns what a `Mixed` of a pytree with one array is."""
    return Abstract(((tuple(shape), np.dtype(dtype)),), (jax.tree.structure(tree), (_ARRAY,)))
