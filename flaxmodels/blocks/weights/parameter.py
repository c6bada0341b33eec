"""Parameters of blocks: made with logical axes, and refused on meshes that blocks cannot use."""

from typing import Any

import jax
from flax import linen as nn
from flax.core import meta

from ... import sharding as fs
from ...calls.known_values import is_deleted
from ...params.errors import first_of
from ...params.quantized.qtensor import QTensor, check
from ...params.tree.weights import Weight
from ...sharding.axes import described


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
        ValueError: it is of another shape; or on a mesh of Explicit axes (whole, inside its
            `jax.set_mesh`, it may be), or on one of Auto axes inside a `jax.set_mesh` of Explicit
            ones.
    """
    found = _held(module, name, shape)
    if found is None and (box := described(init, shape, axes)) is not None:
        module.put_variable("params", name, box)
        return box.value
    if found is None:
        return module.param(name, init, shape)
    return found.dense() if isinstance(found, Weight) else found


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
    found = _held(module, name, shape)
    return parameter(module, name, init, shape, axes) if found is None else found


def _held(module: nn.Module, name: str, shape: tuple[int, ...]) -> jax.Array | Weight | None:
    """Returns a parameter that there is, checked; None where it is to be made.

    linen's own `Module.param` would trace an initializer for the shape, a fifth of the time that a
    pass takes to trace."""
    found = meta.unbox(module.get_variable("params", name))
    path = "/".join((*module.path, name))
    if found is None:
        if not module.is_mutable_collection("params"):
            raise ValueError(
                f"the params have no {path}: a model takes its own, {{'params': params}}, with "
                "layers stacked if it has scan_layers (fp.stack_layers, fp.unstack_layers)"
            )
        return None
    if not hasattr(found, "shape"):
        raise TypeError(f"{path} is a {type(found).__name__}; expected an array")
    if found.shape != shape:
        held = f" ({found.held_as}) stands for" if isinstance(found, Weight) else " has shape"
        more = first_of(found.shape, shape)
        raise ValueError(f"{path}{held} {found.shape}, expected {shape}{more}")
    if isinstance(found, QTensor):
        check(found, path)
    for part in jax.tree.leaves(found):
        if is_deleted(part):
            raise ValueError(
                f"{path} was deleted, or donated to a function (donate_argnums): use what that "
                "returned"
            )
        _check_mesh(jax.typeof(part).sharding, path)
    return found


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
