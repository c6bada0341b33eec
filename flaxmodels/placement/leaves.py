"""Leaves that a program cannot be given as they are: of host memory, of files, of other devices."""

from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

import jax
from jax.core import Tracer

from .. import params as fp
from ..params.checkpoint.disk_leaf import DiskLeaf
from ..params.tree.measure import HOST_KINDS

PlacedLeaf: TypeAlias = jax.Array | DiskLeaf
"""A leaf of params that are run in stages, on one device, in host memory or in a file."""


def is_placed(params: fp.PyTree) -> bool:
    """Tells whether params are to be run in stages: some of them are in host memory beside a
    device's, in files, or on several devices, each whole on one.

    Raises:
        TypeError: such params in a trace, which a program cannot read.
    """
    devices = set()
    for leaf in jax.tree.leaves(params):
        if isinstance(leaf, DiskLeaf):
            return True
        if isinstance(leaf, Tracer):
            if getattr(leaf.aval, "memory_space", None) == jax.memory.Space.Host:
                raise TypeError(
                    "params in host memory are traced, and a program computes on its device: call "
                    "model.apply outside of jit, grad and vmap, which brings them there layer by "
                    "layer, or jax.device_put the params first"
                )
        elif isinstance(leaf, jax.Array):
            sharding = leaf.sharding
            if sharding.memory_kind in HOST_KINDS:
                return True
            if isinstance(sharding, jax.sharding.SingleDeviceSharding):
                devices |= sharding.device_set
    return len(devices) > 1


def is_offloaded(leaf: PlacedLeaf) -> bool:
    """Tells whether a leaf is on no device."""
    return isinstance(leaf, DiskLeaf) or leaf.sharding.memory_kind in HOST_KINDS


def stored_bytes(leaf: PlacedLeaf) -> int:
    """Counts the bytes that a leaf takes where it is."""
    return leaf.tensor.nbytes if isinstance(leaf, DiskLeaf) else leaf.nbytes


def device_for(leaves: Iterable[PlacedLeaf], main: jax.Device | None = None) -> jax.Device:
    """Returns the device that computes with leaves: the one that holds the most bytes of them, or
    if none does the one that they are to be brought to; `main` of no leaves."""
    held, brought = Counter(), Counter()
    for leaf in leaves:
        (device,) = {leaf.device} if isinstance(leaf, DiskLeaf) else leaf.sharding.device_set
        (brought if is_offloaded(leaf) else held)[device] += stored_bytes(leaf)
    counts = held or brought
    return counts.most_common(1)[0][0] if counts else main or jax.local_devices()[0]


def flat_leaves(params: fp.PyTree) -> dict[str, PlacedLeaf]:
    """Returns {path: leaf} of params in stages, NumPy's put onto JAX's device.

    Raises:
        TypeError: a leaf on several devices at once.
    """
    flat = fp.flatten(params)
    for path, leaf in flat.items():
        if isinstance(leaf, DiskLeaf):
            continue
        if not isinstance(leaf, jax.Array):
            flat[path] = jax.device_put(leaf)
        elif len(leaf.sharding.device_set) > 1:
            raise TypeError(
                f"{path} is on {len(leaf.sharding.device_set)} devices at once, and others of the "
                "params are offloaded: give a mesh, or a device_map, not both"
            )
    return flat
