"""Meshes: how the devices of a run are arranged and named."""

import math

import jax
from jax.sharding import AxisType, Mesh


def make_mesh(*, devices: list[jax.Device] | None = None, **axes: int) -> Mesh:
    """A mesh with the given axis sizes, in the given order; one size may be -1: what is left.

    `make_mesh(fsdp=-1, tensor=2)` on eight devices is fsdp 4 x tensor 2. The last axis joins
    neighbouring devices: put the axis with the most communication (`tensor`) last. Axes are
    `AxisType.Auto`, because explicit axes refuse the lookup of a token in a sharded embedding.

    Args:
        devices: all devices of the run (every process) by default.

    Raises:
        ValueError: the sizes do not multiply to the number of devices.

    >>> make_mesh(data=-1).axis_names
    ('data',)
    """
    if not axes:
        raise ValueError("make_mesh needs at least one axis, such as make_mesh(fsdp=-1, tensor=2)")
    devices = jax.devices() if devices is None else devices
    asked = ", ".join(f"{name}={size}" for name, size in axes.items())
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
