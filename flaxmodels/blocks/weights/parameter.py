"""Parameters of blocks: made with logical axes, and refused on meshes that blocks cannot use."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ... import sharding as fs
from ...params.tree.weights import Weight


def parameter(
    module: nn.Module,
    name: str,
    init: fs.Draw,
    shape: tuple[int, ...],
    axes: tuple[str | None, ...],
) -> jax.Array:
    """Makes the parameter `name` of a module; its dimensions have the logical `axes`, None
    for one that no mesh splits.

    One that is held otherwise than as an array, a quantised one, is made into an array.

    Raises:
        ValueError: it is on a mesh of Explicit axes (whole, inside its `jax.set_mesh`, it may be),
            or on one of Auto axes inside a `jax.set_mesh` of Explicit ones.
    """
    if (found := _weight(module, name, shape)) is not None:
        return found.dense()
    draw = _zeros if module.has_variable("params", name) else fs.with_axes(init, *axes)
    value: Any = module.param(name, draw, shape)
    _check_mesh(jax.typeof(value).sharding, "/".join((*module.path, name)))
    return value


def weight(
    module: nn.Module,
    name: str,
    init: fs.Draw,
    shape: tuple[int, int],
    axes: tuple[str | None, str | None],
) -> jax.Array | Weight:
    """Makes a parameter that is only multiplied (`contract`) or looked up in (`rows`), which may
    be held otherwise than as an array; arguments and errors as `parameter`.

    Raises:
        ValueError: what is there stands for an array of another shape.
    """
    found = _weight(module, name, shape)
    return parameter(module, name, init, shape, axes) if found is None else found


def _weight(module: nn.Module, name: str, shape: tuple[int, ...]) -> Weight | None:
    """Returns a parameter that is held otherwise than as an array; None if it is not. linen itself
    would compare its arrays with the one that an initializer draws."""
    found = module.get_variable("params", name)
    if not isinstance(found, Weight):
        return None
    path = "/".join((*module.path, name))
    if found.shape != shape:
        raise ValueError(f"{path} ({found.held_as}) stands for {found.shape}, expected {shape}")
    for part in jax.tree.leaves(found):
        _check_mesh(jax.typeof(part).sharding, path)
    return found


def _zeros(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Stands in for the initializer of a parameter that there is: linen traces it for its shape,
    and to trace a draw takes twice as long (1.2 ms a parameter)."""
    return jnp.zeros(shape)


def _check_mesh(sharding: Any, path: str) -> None:
    """Refuses what JAX would fail on some layers later, without a parameter's name."""
    mesh, around = sharding.mesh, jax.sharding.get_abstract_mesh()
    split = any(part is not None for part in sharding.spec)
    if mesh.explicit_axes and (split or around.empty):
        raise ValueError(f"{path}: {fs.explicit_axes(mesh)}")
    if not mesh.empty and mesh.are_all_axes_auto and around.explicit_axes:
        raise ValueError(
            f"{path} is on a mesh of Auto axes, and jax.set_mesh is one of others: "
            f"{fs.explicit_axes(around)}; or leave jax.set_mesh: params bring their mesh along"
        )
