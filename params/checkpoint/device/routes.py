"""Routes: which leaves their devices transform, and how those are cut."""

import dataclasses
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, SingleDeviceSharding

from ...formats.source import ArrayTensor
from ...host.pinned import can_pin
from ..leaf_plan import PAGES, WASTE, Cut, LeafPlan, Route, read_by_busiest, run_of
from .grid import Grid, busiest, grid_of

RING = 4  # slots of host memory: two are being read, two are on their way to devices
SLABS = 3  # chunks that a device holds at once: one arrives, one is there, one is transposed
_SLAB = 64 << 20  # bytes; smaller chunks cost calls, larger ones memory
_SMALL = 1 << 20  # bytes of a leaf, below which a transfer of its own costs more
_PACKED = 16  # small leaves are this much smaller than a chunk
_OVER = 1.02  # rows read over rows held, above which a chunk has fewer
_CALL = 1 << 20  # bytes that are sent in the time that a launch takes

Way = Literal["auto", "host", "device"]


class Limits(NamedTuple):
    """Bytes: that a process reads at a time, that a device holds of a chunk, of a small leaf."""

    slot: int
    slab: int
    small: int


def limits_of(max_host_memory: int) -> Limits:
    """Returns the limits with which the ring is at most half of `max_host_memory`."""
    slot = max_host_memory // (2 * RING)
    slab = min(_SLAB, slot)
    return Limits(slot, slab, min(_SMALL, slab // _PACKED))


def route_of(leaf: LeafPlan, way: Way, limits: Limits) -> Route:
    """Decides which way a leaf takes: every process of a run decides alike.

    Args:
        way: "device", "host", or "auto": "device" but on CPUs, whose memory is the host's. There it
            is "device" where processes would else read the same bytes, or the same pages of them.
    """
    if way == "host":
        return Route()
    by_cpus = way == "auto" and _are_cpus(leaf)
    mesh = _shared_mesh(leaf) if by_cpus else None
    if by_cpus and mesh is None:
        return Route()
    if why := _obstacle(leaf):
        return Route("host", why=why)
    size = math.prod(leaf.shape) * max(leaf.stored.itemsize, leaf.dtype.itemsize)
    small = size <= limits.small or not leaf.pieces[0].permutation
    if mesh is not None:
        if small or read_by_busiest(leaf) <= WASTE:
            return Route()
        limits = _beside_params(limits, busiest(mesh))
    elif small:
        return Route("packed")
    return Route("device", cut_of(leaf, limits))


def _are_cpus(leaf: LeafPlan) -> bool:
    if isinstance(leaf.sharding, NamedSharding) and isinstance(leaf.sharding.mesh, AbstractMesh):
        return jax.default_backend() == "cpu"  # a plan alone
    return next(iter(leaf.sharding.device_set)).platform == "cpu"


def _shared_mesh(leaf: LeafPlan) -> Mesh | None:
    """Returns the mesh of a leaf that several processes read parts of out of files; else None."""
    sharding = leaf.sharding
    if not isinstance(sharding, NamedSharding) or isinstance(sharding.mesh, AbstractMesh):
        return None
    read = any(not isinstance(piece.tensor, ArrayTensor) for piece in leaf.pieces)
    return sharding.mesh if read and sharding.mesh.is_multi_process else None


def _beside_params(limits: Limits, devices: int) -> Limits:
    """Returns limits with which the ring, and what so many devices hold beside params, are at most
    a quarter of `max_host_memory` each: both are in the memory of the host."""
    slot = limits.slot // 2
    return Limits(slot, min(limits.slab, slot * RING // (SLABS * devices)), limits.small)


def _obstacle(leaf: LeafPlan) -> str:
    """Says why devices cannot transform a leaf."""
    sharding, pieces = leaf.sharding, leaf.pieces
    if not isinstance(sharding, NamedSharding | SingleDeviceSharding):
        return f"its sharding is a {type(sharding).__name__}"
    if not sharding.addressable_devices:
        return "no device of it is of this process"
    kind, device = sharding.memory_kind, next(iter(sharding.addressable_devices))
    if kind not in (None, device.default_memory().kind):
        return f"it goes to {kind}"
    if jax.dtypes.canonicalize_dtype(leaf.stored) != leaf.stored:
        return f"{leaf.stored} needs x64"
    if leaf.stored.kind == "c" or not all(map(_is_of_bytes, (leaf.stored, leaf.dtype))):
        return f"{leaf.stored} -> {leaf.dtype}"
    if math.prod(leaf.shape) == 0:
        return "it is empty"
    if any(
        isinstance(p.tensor, ArrayTensor) and isinstance(p.tensor.array, jax.Array) for p in pieces
    ):
        return "it is on a device"
    lead = len(pieces[0].index)
    if [piece.index for piece in pieces] != [*np.ndindex(*leaf.shape[:lead])]:
        return "its tensors are not all there"
    return ""


def _is_of_bytes(dtype: np.dtype) -> bool:
    """Tells whether a device stores numbers of a dtype as the host does; those of 4 bits not."""
    if dtype == np.bool_ or dtype.kind == "c":
        return True
    info = jnp.finfo(dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype)
    return info.bits == 8 * dtype.itemsize


def cut_of(leaf: LeafPlan, limits: Limits) -> Cut:
    """Cuts a leaf into as few chunks as the limits let it, of rows that are as long as can be."""
    grid = grid_of(leaf)
    if not can_pin(next(iter(leaf.sharding.addressable_devices))):
        return _largest(leaf, grid, limits)
    # Pinned memory is sent whole. Its sizes are powers of two, so that there are few of them: the
    # one that wastes least.
    devices = busiest(grid.mesh)
    most = 1 << min(limits.slab, limits.slot // (2 * devices)).bit_length() - 1
    sizes = [max(most >> i, 64) for i in range(4)]
    cuts = [_pinned(leaf, grid, Limits(n * devices, n, limits.small)) for n in sizes]
    return min(cuts, key=lambda cut: grid.chunks(cut) * (cut.capacity + _CALL))


def _pinned(leaf: LeafPlan, grid: Grid, limits: Limits) -> Cut:
    cut = _largest(leaf, grid, limits)
    part = math.prod(grid.chunk(cut)) * leaf.stored.itemsize
    capacity = 1 << (part - 1).bit_length()
    return dataclasses.replace(cut, capacity=capacity, slab=max(cut.slab, capacity))


def _largest(leaf: LeafPlan, grid: Grid, limits: Limits) -> Cut:
    return next(filter(None, (_cut(leaf, grid, axis, limits) for axis in range(len(grid.axes)))))


def _cut(leaf: LeafPlan, grid: Grid, axis: int, limits: Limits) -> Cut | None:
    """Cuts along an axis; None if one row is more than the limits and there is another axis."""
    shares = () if _reads_once(leaf, grid, axis) else _shares(grid, axis)
    count = grid.count(shares)
    held, stored = grid.stored(grid.local), grid.stored(grid.shape)
    row = math.prod(held[axis + 1 :])
    sent = math.prod((stored if shares else held)[axis + 1 :]) * leaf.stored.itemsize
    width = row * max(leaf.stored.itemsize, leaf.dtype.itemsize)
    devices = busiest(grid.mesh)
    most = min(limits.slab // width, limits.slot // (sent * devices) * count)
    if most < 1:
        if axis + 1 < len(held):
            return None
        most = 1
    step = _step(held[axis], most, count)
    read = -(-step // count) * sent
    return Cut(axis, step, shares, max(read, step * width))


def _step(rows: int, most: int, count: int) -> int:
    """Returns how many rows a chunk has, of at most `most`: so many that the shares of `count`
    devices, which are whole rows, add up to hardly more than there are, in at most twice as many
    chunks as there must be."""

    def read(step: int) -> int:
        return -(-rows // step) * -(-step // count) * count

    least = -(-rows // most)
    steps = [-(-rows // chunks) for chunks in range(least, 2 * least + 1)]
    return next((step for step in steps if read(step) <= _OVER * rows), min(steps, key=read))


def _shares(grid: Grid, axis: int) -> tuple[str, ...]:
    """Returns the mesh axes along which devices can share the reading of a chunk's rows."""
    names = [*grid.unused]
    for _, across in grid.across(axis):
        names += across
    return tuple(name for name in names if grid.count((name,)) > 1)


def _reads_once(leaf: LeafPlan, grid: Grid, axis: int) -> bool:
    """Tells whether devices that each read what they hold read hardly more than once what there is:
    no two hold the same, and their runs of bytes are long beside what a disk reads at least.

    Processes may have some files on a disk and some not, and must decide alike: what spans several
    is taken to be on a network.
    """
    if grid.count(grid.unused) > 1:
        return False
    remote = any(span.file.is_remote for piece in leaf.pieces for span in piece.tensor.spans)
    remote = remote or not leaf.sharding.is_fully_addressable
    held, stored = grid.stored(grid.local)[axis + 1 :], grid.stored(grid.shape)[axis + 1 :]
    run = leaf.stored.itemsize * run_of(held, stored)
    return held == stored or run + PAGES[remote] <= WASTE * run
