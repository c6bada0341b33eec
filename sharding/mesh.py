"""Meshes: devices of a run, arranged along named axes."""

import math
from collections.abc import Iterable
from typing import Literal, overload

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh

from .presets import Target, names_of


def make_mesh(*, devices: Iterable[jax.Device] | None = None, **axes: int) -> Mesh:
    """Makes a mesh with the given axis sizes, in the given order; -1 takes what is left.

    `make_mesh(fsdp=-1, tensor=2)` on eight devices is fsdp 4 x tensor 2. The last axis joins
    neighbouring devices: put the axis with the most communication (`tensor`) last. Axes are
    `AxisType.Auto`, because explicit axes refuse the lookup of a token in a sharded embedding.

    Args:
        devices: all devices of the run (every process) by default.

    Raises:
        TypeError: a size that is no int, or devices that are none.
        ValueError: the sizes do not multiply to the number of devices, or a device is there twice.

    >>> make_mesh(data=-1).axis_names
    ('data',)
    """
    if not axes:
        raise ValueError("make_mesh needs at least one axis, such as make_mesh(fsdp=-1, tensor=2)")
    devices = jax.devices() if devices is None else _checked(devices)
    asked = ", ".join(f"{name}={size}" for name, size in axes.items())
    for name, size in axes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool):
            raise TypeError(f"make_mesh({asked}): size of axis {name!r} is {size!r:.80}, no int")
    if bad := [name for name, size in axes.items() if size != -1 and size < 1]:
        raise ValueError(f"make_mesh({asked}): size of axis {bad[0]!r} must be positive or -1")
    if sum(size == -1 for size in axes.values()) > 1:
        raise ValueError(f"make_mesh({asked}): only one axis may be -1 (what is left)")
    fixed = math.prod(size for size in axes.values() if size != -1)
    sizes = [len(devices) // fixed if size == -1 else size for size in axes.values()]
    if math.prod(sizes) != len(devices):
        raise ValueError(
            f"make_mesh({asked}) does not fit {len(devices)} devices; choose sizes whose product "
            f"is {len(devices)}, or pass devices=jax.devices()[:n] to use fewer"
        )
    return jax.make_mesh(
        tuple(sizes), tuple(axes), axis_types=(AxisType.Auto,) * len(axes), devices=devices
    )


def _checked(devices: object) -> list[jax.Device]:
    """Returns a list of devices, each of which is there once."""
    listed = [*devices] if isinstance(devices, Iterable) else [devices]
    found = [device for device in listed if isinstance(device, jax.Device)]
    if not found or len(found) < len(listed):
        raise TypeError(
            f"make_mesh: devices is {devices!r:.100}; expected a list of devices, such as "
            "jax.devices()[:4]"
        )
    if len({*found}) < len(found):
        raise ValueError(f"make_mesh: a device is in devices twice: {found!r:.200}")
    return found


@overload
def check_mesh(mesh: object, *, abstract: Literal[False] = False) -> Mesh: ...
@overload
def check_mesh(mesh: object, *, abstract: bool) -> Mesh | AbstractMesh: ...
def check_mesh(mesh: object, *, abstract: bool = False) -> Mesh | AbstractMesh:
    """Returns the mesh that params are placed on: a mesh of Explicit axes, as `jax.make_mesh` makes
    it, is taken as the one of Auto axes on the same devices, with the same names.

    Params, and what a model makes of them, are then on the mesh of Auto axes. JAX computes nothing
    of two meshes: an array on the Explicit one goes to a model by `jax.device_put(x,
    NamedSharding(fs.check_mesh(mesh), spec))`, and a model is called outside of
    `jax.set_mesh(mesh)`, or in a `jax.set_mesh(fs.check_mesh(mesh))` inside of it.

    Args:
        abstract: whether a mesh without devices, `jax.sharding.AbstractMesh`, will do.

    Raises:
        TypeError: no mesh.
        ValueError: a mesh without axes, or with Manual ones.
    """
    if isinstance(mesh, AbstractMesh) and not abstract:
        raise TypeError("mesh is abstract and has no devices; give a jax.sharding.Mesh of them")
    if not isinstance(mesh, Mesh | AbstractMesh):
        raise TypeError(
            f"mesh is a {type(mesh).__name__}: expected a jax.sharding.Mesh, as "
            "flaxmodels.sharding.make_mesh(fsdp=-1) makes it"
        )
    if not mesh.axis_names:
        raise ValueError("mesh has no axes; make one with flaxmodels.sharding.make_mesh(fsdp=-1)")
    if mesh.are_all_axes_auto:
        return mesh
    if AxisType.Manual in mesh.axis_types:
        raise ValueError(explicit_axes(mesh))
    auto = (AxisType.Auto,) * len(mesh.axis_names)
    if isinstance(mesh, Mesh):
        return Mesh(mesh.devices, mesh.axis_names, axis_types=auto)
    return AbstractMesh(mesh.axis_sizes, mesh.axis_names, axis_types=auto)


def explicit_axes(mesh: Mesh | AbstractMesh) -> str:
    """Returns what is wrong with a mesh of axes that are not Auto, and what to write instead."""
    kinds = dict.fromkeys(kind.name for kind in mesh.axis_types if kind != AxisType.Auto)
    sizes = sizes_of(mesh)
    return (
        f"the axes of the mesh ({sizes}) are {' and '.join(kinds)}, and a model's lookups and "
        "products leave their shardings to the compiler, which takes Auto axes: use "
        "flaxmodels.sharding.check_mesh(mesh), the mesh of Auto axes on the same devices, or make "
        f"it with flaxmodels.sharding.make_mesh({sizes})"
    )


def sizes_of(mesh: Mesh | AbstractMesh) -> str:
    """Returns the sizes of a mesh as `make_mesh` takes them: "fsdp=4, tensor=2"."""
    return ", ".join(f"{name}={size}" for name, size in mesh.shape.items())


def on_mesh(target: Target, mesh: Mesh | AbstractMesh) -> tuple[str, ...]:
    """Returns the mesh axes of a rule's target that the mesh has."""
    return tuple(name for name in names_of(target) if name in mesh.axis_names)


def parts_of(target: Target, mesh: Mesh | AbstractMesh) -> int:
    """Returns into how many parts these axes split a dimension."""
    return math.prod(mesh.shape[name] for name in names_of(target))
