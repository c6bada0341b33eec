"""Types of trees, for signatures."""

from typing import Any, Protocol, TypeAlias

import jax
import numpy as np

Params: TypeAlias = dict[str, Any]
"""Parameters: nested dicts of arrays, as `model.apply({"params": params}, ...)` takes them."""

PyTree: TypeAlias = Any
"""Any tree that JAX knows: of dicts, FrozenDicts, dataclasses or tuples."""

Leaf: TypeAlias = jax.Array | np.ndarray | jax.ShapeDtypeStruct
"""A leaf of a tree of params: an array of JAX or NumPy, or an abstract one."""

Concrete: TypeAlias = jax.Array | np.ndarray
"""A leaf that has values."""


class Shaped(Protocol):
    """What has a shape, as leaves and tensors of files have."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Scalar: TypeAlias = float | jax.Array
"""One number, which may be traced."""
