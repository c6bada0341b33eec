"""Weights that are more than one array: one leaf of a tree of params, several of `jax.tree`."""

import abc
import math
from typing import ClassVar, TypeAlias, TypeVar

import jax
import numpy as np

Shape: TypeAlias = tuple[int, ...]
L = TypeVar("L")


class Weight(abc.ABC):
    """A weight that is held as several arrays, such as the codes and scales of a quantised one.

    The functions of `params` on trees see one leaf, which has a logical shape and dtype. JAX sees a
    node of the tree: `jit`, `scan`, shardings and orbax its arrays, one by one.

    Attributes:
        is_code: whether its arrays are codes, of which sums and means are nonsense.
    """

    is_code: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def shape(self) -> Shape:
        """Its logical shape: that of the array that it stands for."""

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype:
        """Its logical dtype: that of the array that it stands for."""

    @property
    @abc.abstractmethod
    def held_as(self) -> str:
        """How its numbers are held, in a word: "nf4"."""

    @property
    def sharding(self) -> jax.sharding.Sharding | None:
        """Where the first of its arrays is; None if it is not placed."""
        return getattr(jax.tree.leaves(self)[0], "sharding", None)

    @abc.abstractmethod
    def astype(self, dtype: jax.typing.DTypeLike) -> "Weight":
        """Returns the same weight of another logical dtype."""

    @abc.abstractmethod
    def dense(self, dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
        """Returns the array that it stands for, in its own dtype or in another."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        """Raises: NumPy would take the weight for an object without axes."""
        raise TypeError(f"a weight that is held as {self.held_as}; its dense() is an array")

    @property
    def ndim(self) -> int:
        """The number of its logical axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers it stands for."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(self))


def is_code(x: object) -> bool:
    """Tells whether `x` is a leaf of params whose arrays are no numbers to compute with."""
    return isinstance(x, Weight) and x.is_code


def is_weight(x: object) -> bool:
    """Tells whether `x` is a leaf of params that JAX takes for a node: `is_leaf` of `jax.tree`."""
    return isinstance(x, Weight)


def array_at(path: str, leaf: L | Weight) -> L:
    """Returns a leaf that is to be cut or extended.

    Raises:
        ValueError: it is held as several arrays.
    """
    if isinstance(leaf, Weight):
        raise ValueError(
            f"{path} is held as {leaf.held_as}, which is not cut or extended: first "
            "fp.dequantize(params), fp.merge_adapters(params) or fp.without_adapters(params)"
        )
    return leaf
