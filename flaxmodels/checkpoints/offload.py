"""Loads by a `device_map`: leaves get their places in the plan, and some of them stay in files."""

import dataclasses

import jax
from jax.sharding import SingleDeviceSharding

from .. import params as fp
from ..core.model import Model
from ..params.checkpoint.disk_leaf import in_place, stays_readable, written
from ..params.checkpoint.load_plan import LoadPlan
from ..params.checkpoint.stream import stream
from ..params.errors import some
from ..params.tree.measure import nbytes
from ..placement.device_map import DeviceMap, device_map_of
from ..placement.options import DeviceMapOptions


def placed_plan(model: Model, plan: LoadPlan, options: DeviceMapOptions) -> LoadPlan:
    """Returns the plan by which each leaf goes to the place that a `device_map` gives it.

    Raises:
        ValueError: see `device_map_of`; or leaves for the disk that need a folder, which is not
            given.
    """
    placement = placement_of(model, plan, options)
    leaves, on_disk = [], []
    for leaf in plan.leaves:
        owner = plan.owner(leaf)
        sharding = placement.sharding(owner or leaf.path)
        if sharding is None and owner is not None:
            raise ValueError(
                f"the device_map leaves {owner} on the disk, and it is quantised, which stays in "
                "memory: give it a device or the cpu, or dequantize=True"
            )
        if sharding is None:
            main = SingleDeviceSharding(placement.main)
            on_disk.append(dataclasses.replace(leaf, sharding=main, committed=True))
        else:
            leaves.append(plan.elsewhere(leaf, sharding))
    changed = [leaf.path for leaf in on_disk if not stays_readable(leaf)]
    fresh = [path for path in plan.match.fresh if placement.sharding(path) is None]
    if (changed or fresh) and options.offload_folder is None:
        why = "not in the checkpoint" if fresh else "not in files of this machine as they are"
        raise ValueError(
            f"the device_map leaves {some(fresh or changed, 3)} on the disk, and they are {why}: "
            "give offload_folder, where they are written"
        )
    return dataclasses.replace(plan, leaves=tuple(leaves), on_disk=tuple(on_disk))


def placement_of(model: Model, plan: LoadPlan, options: DeviceMapOptions) -> DeviceMap:
    """Carries out a `device_map` for the leaves of a plan, and those that it does not find."""
    planned: dict[str, int] = {}
    for leaf in (*plan.leaves, *plan.on_disk):
        path = plan.owner(leaf) or leaf.path
        planned[path] = planned.get(path, 0) + leaf.nbytes
    sizes = {path: nbytes(leaf) for path, leaf in fp.flatten(model.abstract_params()).items()}
    return device_map_of(model, sizes | planned, options)


def streamed(plan: LoadPlan, options: DeviceMapOptions, *, progress: bool) -> fp.Params:
    """Reads what a plan says, but for what stays on the disk.

    Raises:
        fp.CheckpointError: as `stream`; or a disk that is full, on which nothing is left then.
    """
    if not plan.on_disk:
        return stream(plan, progress=progress)
    (device,) = plan.on_disk[0].sharding.device_set
    stay = {leaf.path: in_place(leaf, device) for leaf in plan.on_disk if stays_readable(leaf)}
    moved = [leaf for leaf in plan.on_disk if leaf.path not in stay]
    params = stream(plan, progress=progress)
    if moved:
        assert options.offload_folder is not None  # the plan has seen to it
        stay |= written(options.offload_folder, ((leaf.path, leaf) for leaf in moved), device)
    return fp.merge(params, fp.unflatten(stay))


def placed_leaves(
    model: Model, params: fp.Params, plan: LoadPlan, options: DeviceMapOptions
) -> fp.Params:
    """Puts leaves that were drawn where a `device_map` has a place for them."""
    placement = placement_of(model, plan, options)
    placed: dict[str, object] = {}
    to_disk = {}
    for path, leaf in fp.flatten(params).items():
        sharding = placement.sharding(path)
        if sharding is None:
            to_disk[path] = leaf
        else:
            placed[path] = jax.device_put(leaf, sharding)
    if to_disk:
        assert options.offload_folder is not None
        placed |= written(options.offload_folder, to_disk.items(), placement.main)
    return fp.unflatten(placed)
