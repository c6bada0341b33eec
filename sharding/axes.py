"""Logical axes: names for the dimensions of a parameter, declared where it is made."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax.core import meta

PyTree: TypeAlias = Any
"""Any tree that JAX knows."""

Draw = Callable[[jax.Array, tuple[int, ...]], jax.Array]
"""An initializer: (key, shape) -> array."""


class AbstractParam(jax.ShapeDtypeStruct):
    """Describes an array whose dimensions have names, as `jax.ShapeDtypeStruct` does without: shape
    (V, D) with axes ("vocab", "embed").

    It is a leaf to every JAX transform that takes abstract values. `axes` and `draw` do not take
    part in equality, so a template compares equal to the plain abstract tree of the same arrays.

    Attributes:
        axes: a logical name for each dimension; "layers" first in a stacked leaf.
        draw: the initializer (of one layer, in a stacked leaf); lost by pickling.
    """

    __slots__ = ("axes", "draw")

    def __init__(
        self, shape, dtype, *, axes: tuple[str | None, ...], draw: Draw | None = None, **kwargs
    ):
        super().__init__(shape, dtype, **kwargs)
        self.axes = checked_axes(axes, self.shape)
        self.draw = draw

    def update(self, **kwargs) -> "AbstractParam":
        """Returns the leaf with some of shape, dtype, sharding, axes replaced."""
        plain = super().update(**{k: v for k, v in kwargs.items() if k != "axes"})
        return AbstractParam(
            plain.shape,
            plain.dtype,
            axes=kwargs.get("axes", self.axes),
            draw=self.draw,
            sharding=plain.sharding,
            weak_type=plain.weak_type,
        )

    def __reduce__(self):
        make = functools.partial(AbstractParam, axes=self.axes, sharding=self.sharding)
        return make, (self.shape, self.dtype)


def checked_axes(axes: object, shape: tuple[int, ...], of: str = "") -> tuple[str | None, ...]:
    """Returns names of dimensions as a tuple.

    Raises:
        ValueError: not one for each, one text for all, or no shape; it begins with `of`.
    """
    is_shape = isinstance(shape, tuple | list) and not any(isinstance(n, str) for n in shape)
    if not is_shape:
        raise ValueError(f"{of}shape is {shape!r:.100}; expected the sizes of the dimensions")
    if not isinstance(axes, tuple | list) or len(axes) != len(shape):
        raise ValueError(f"{of}axes {axes!r:.100} do not name the dimensions of shape {shape}")
    return tuple(axes)


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """Wraps an initializer as a part of a tree's structure. All wrappers are equal: modules of one
    trace make closures of their own, which draw the same."""

    draw: Draw = dataclasses.field(compare=False)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Axes(meta.AxisMetadata):
    """Boxes a value and its axes, from an initializer to `declared_axes` alone: `Module.init` makes
    plain arrays.

    Lifted transforms add their axis through it (`nn.scan(metadata_params={"axis": "layers"})`, or
    flax's own `nn.PARTITION_NAME`); an axis that they do not name has no name. Unlike
    `nn.Partitioned` it never constrains.
    """

    value: PyTree
    names: tuple[str | None, ...] = dataclasses.field(metadata={"static": True})
    drawn: _Drawn = dataclasses.field(metadata={"static": True})

    def unbox(self) -> PyTree:
        return self.value

    def replace_boxed(self, val: object) -> "Axes":
        return Axes(val, self.names, self.drawn)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Axes":
        names = list(self.names)
        names.insert(index, params.get("axis", params.get(meta.PARTITION_NAME)))
        return Axes(self.value, tuple(names), self.drawn)

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Axes":
        names = list(self.names)
        del names[index]
        return Axes(self.value, tuple(names), self.drawn)

    def abstract(self) -> AbstractParam:
        """Returns the box of an abstract value as one leaf."""
        value = self.value
        return AbstractParam(value.shape, value.dtype, axes=self.names, draw=self.drawn.draw)


_declaring = jax.make_user_context(default_value=False)
"""Whether initializers box what they make. Part of the key of JAX's caches, so that a function
compiled or traced on one side is not reused on the other."""


def with_axes(init: Draw, *names: str | None) -> Callable[..., PyTree]:
    """Wraps an initializer so that the parameter it makes has one axis name per dimension.

    `declared_axes` alone sees the names; in any other call the initializer is `init` itself, so
    that `Module.init`, `nn.vmap`, `nn.jit`, `nnx.bridge.ToNNX` and others see plain arrays.
    """

    def named(key: jax.Array, shape: tuple[int, ...]) -> PyTree:
        value = init(key, shape)
        return Axes(value, names, _Drawn(init)) if _declaring.value else value

    return named


def described(init: Draw, shape: tuple[int, ...], names: tuple[str | None, ...]) -> Axes | None:
    """Boxes zeros, float32, in the place of a parameter that `init` would draw, where
    `declared_axes` asks for its description; None in any other call. To trace the draws takes a
    quarter of the time that a model takes to be described."""
    return Axes(jnp.zeros(shape, jnp.float32), names, _Drawn(init)) if _declaring.value else None


def leaves_by_path(tree: PyTree) -> dict[str, Any]:
    """Returns {path, its names with slashes between: leaf}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_of(key_path): leaf for key_path, leaf in leaves}


path_of = functools.partial(jax.tree_util.keystr, simple=True, separator="/")


def declared_axes(init: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """Returns the tree of `AbstractParam` that `init(*args)`, such as `Module.init`, would make;
    computes nothing. A parameter whose initializer is not wrapped with `with_axes` has the names of
    flax's own boxes (`nn.with_logical_partitioning`), or axes without names.
    """

    def leaf(x: Any) -> AbstractParam:
        if isinstance(x, Axes):
            return x.abstract()
        value, names = (x.value, x.names) if isinstance(x, meta.Partitioned) else (x, ())
        axes = (*names, *[None] * (len(value.shape) - len(names)))
        return AbstractParam(value.shape, value.dtype, axes=axes)

    with _declaring(True):
        boxed = jax.eval_shape(init, *args)
    return jax.tree.map(leaf, boxed, is_leaf=lambda x: isinstance(x, Axes | meta.Partitioned))
