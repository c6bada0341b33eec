"""Programs: what devices do with stored bytes, compiled once for each class of leaves.

A program sees what one device has and writes what one device holds: exchanges between devices are
named here, none is left to the partitioner.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P
from jax.stages import Compiled

from ...types import PyTree
from ..leaf_plan import Cut, LeafPlan
from .grid import Grid, Names, auto_mesh

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Place:
    """Devices that run programs together.

    Attributes:
        mesh: None where there is one, without a mesh.
        device: that one.
        committed: whether arrays are to stay there.
    """

    mesh: Mesh | None
    device: jax.Device | None = None
    committed: bool = True

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """Those of this process."""
        if self.mesh is not None:
            return tuple(self.mesh.local_devices)
        return () if self.device is None else (self.device,)

    @property
    def spans_processes(self) -> bool:
        return self.mesh is not None and self.mesh.is_multi_process

    def sharding(self, names: tuple[Names, ...]) -> Sharding | None:
        """Returns the sharding of an array whose axes are divided along mesh axes."""
        if self.mesh is not None:
            return NamedSharding(self.mesh, spec_of(names))
        assert self.device is not None
        return jax.sharding.SingleDeviceSharding(self.device) if self.committed else None

    @property
    def blocks(self) -> NamedSharding:
        """The sharding of an array [*mesh, ...] of which each device has a block."""
        assert self.mesh is not None
        return NamedSharding(self.mesh, self.every)

    @property
    def every(self) -> P:
        """The spec of such an array; () where there is no mesh."""
        return P(*(self.mesh.axis_names if self.mesh else ()))

    def block_shape(self, shape: Shape) -> Shape:
        """Returns the shape that a device's block has in such an array."""
        return shape if self.mesh is None else (1,) * self.mesh.devices.ndim + shape

    def block(self, shape: Shape, dtype: np.dtype) -> jax.ShapeDtypeStruct:
        """Returns what an array is of which each device has a block of this shape."""
        if self.mesh is None:
            return jax.ShapeDtypeStruct(shape, dtype, sharding=self.sharding(()))
        shape = (*self.mesh.devices.shape, *shape)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=self.blocks)

    def compiled(
        self,
        function: Callable[..., object],
        inputs: Sequence[jax.ShapeDtypeStruct | np.ndarray],
        given: PyTree,
        out: PyTree,
        donate: int | None,
    ) -> Compiled:
        """Compiles a function of what each device has.

        Args:
            inputs: abstract arrays. given, out: their partition specs, and the results'.
            donate: number of the argument whose memory the result takes.
        """
        donated = () if donate is None else (donate,)
        if self.mesh is not None:
            function = jax.shard_map(
                function, mesh=self.mesh, in_specs=given, out_specs=out, check_vma=False
            )
            shardings = jax.tree.map(
                lambda spec: NamedSharding(self.mesh, spec),  # type: ignore[arg-type]
                out,
                is_leaf=lambda x: isinstance(x, P),
            )
            jitted = jax.jit(function, donate_argnums=donated, out_shardings=shardings)
        else:
            jitted = jax.jit(function, donate_argnums=donated)
        return self.lowered(jitted, *inputs)

    def lowered(self, jitted: jax.stages.Wrapped, *inputs: Any) -> Compiled:
        """Compiles what was jitted, where arrays without a sharding go to the one device."""
        with contextlib.nullcontext() if self.device is None else jax.default_device(self.device):
            return jitted.lower(*inputs).compile()


def place_of(leaf: LeafPlan) -> Place:
    """Returns the devices that a leaf lives on."""
    if isinstance(leaf.sharding, NamedSharding):
        return Place(auto_mesh(leaf.sharding.mesh))
    (device,) = leaf.sharding.device_set
    return Place(None, device, leaf.committed)


@dataclasses.dataclass(frozen=True)
class Update:
    """A class of leaves: `update(leaf, chunk, start) -> (leaf, token)` is one program for all
    chunks of all leaves in it. It writes a chunk of every shard into the leaf, whose memory it
    keeps; the token is ready when the chunk has been read."""

    place: Place
    grid: Grid
    stored: np.dtype
    dtype: np.dtype
    cut: Cut

    @property
    def chunk(self) -> Shape:
        """The shape of what a device gets, by the axes of a stored tensor."""
        return self.grid.chunk(self.cut)

    @property
    def block(self) -> jax.ShapeDtypeStruct:
        """The chunk as it is sent: numbers as their bits, or pinned bytes."""
        if self.cut.capacity:
            return self.place.block((self.cut.capacity,), np.dtype(np.uint8))
        return self.place.block(self.chunk, bits_of(self.stored))

    @functools.lru_cache(256)  # noqa: B019  programs outlive loads on purpose
    def compiled(self) -> Compiled:
        grid, place = self.grid, self.place
        sharding = place.sharding(grid.names)
        leaf = jax.ShapeDtypeStruct(grid.shape, self.dtype, sharding=sharding)
        start = np.zeros(len(grid.shape), np.int32)
        inputs = (leaf, self.block, start)
        spec, every = spec_of(grid.names), place.every
        return place.compiled(self._update, inputs, (spec, every, P()), (spec, every), 0)

    def _update(
        self, leaf: jax.Array, chunk: jax.Array, start: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        token = _token(self.place, chunk)
        x = _numbers(chunk, self.chunk, bits_of(self.stored)) if self.cut.capacity else chunk
        x = self._whole(x.reshape(self.chunk))
        x = lax.slice_in_dim(x, 0, self.cut.step, axis=self.cut.axis)
        x = _cast(x.transpose(self.grid.permutation), self.stored, self.dtype)
        x = x.reshape((1,) * self.grid.lead + x.shape)
        bits = lax.dynamic_update_slice(_as(leaf, bits_of(self.dtype)), x, [*start])
        return _as(bits, self.dtype), token

    def _whole(self, x: jax.Array) -> jax.Array:
        """Returns the rows that the shares make, of the columns that this device holds.

        Rows are shared in the order of `shares`: those that hold the same first, then those of each
        divided axis. Taken back from the last, what is concatenated is in order.
        """
        rows, shares = self.cut.axis, self.cut.shares
        for axis, names in reversed(self.grid.across(rows) if shares else ()):
            x = lax.all_to_all(x, names, split_axis=axis, concat_axis=rows, tiled=True)
        if same := tuple(name for name in self.grid.unused if name in shares):
            x = lax.all_gather(x, same, axis=rows, tiled=True)
        return x


def update_of(leaf: LeafPlan, grid: Grid) -> Update:
    """Returns the class of a leaf that has a cut."""
    assert leaf.route.cut is not None
    return Update(place_of(leaf), grid, leaf.stored, leaf.dtype, leaf.route.cut)


@dataclasses.dataclass(frozen=True)
class Packed:
    """A leaf in a pack.

    Attributes:
        first: number of its first element in the slab.
        stored: shape of the tensors that it is made of, one after the other in the slab.
    """

    grid: Grid
    dtype: np.dtype
    first: int
    stored: Shape


@dataclasses.dataclass(frozen=True)
class Unpack:
    """Small leaves of one dtype: `unpack(slab) -> (leaves, token)` cuts them out of one transfer,
    which every device gets."""

    place: Place
    dtype: np.dtype
    size: int
    leaves: tuple[Packed, ...]

    @functools.lru_cache(256)  # noqa: B019
    def compiled(self) -> Compiled:
        every = self.place.every
        specs = [spec_of(leaf.grid.names) for leaf in self.leaves]
        inputs = (self.place.block((self.size,), bits_of(self.dtype)),)
        return self.place.compiled(self._unpack, inputs, (every,), (specs, every), None)

    def _unpack(self, slab: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        token = _token(self.place, slab)
        slab = slab.reshape(-1)
        return [_cut_out(slab, self.dtype, leaf) for leaf in self.leaves], token


def _token(place: Place, sent: jax.Array) -> jax.Array:
    """Returns what is ready once a device has read what was sent to it."""
    return (sent.reshape(-1)[:1] != 0).reshape(place.block_shape(()) or (1,))


def _cut_out(slab: jax.Array, stored: np.dtype, leaf: Packed) -> jax.Array:
    """Returns this device's shard of a leaf."""
    grid = leaf.grid
    numbers = grid.shape[: grid.lead]
    x = slab[leaf.first : leaf.first + math.prod(grid.shape)].reshape(*numbers, *leaf.stored)
    x = x.transpose(*range(grid.lead), *(grid.lead + axis for axis in grid.permutation))
    for axis, names in enumerate(grid.names):
        if grid.count(names) > 1:
            size = grid.local[axis]
            x = lax.dynamic_slice_in_dim(x, lax.axis_index(names) * size, size, axis)
    return _as(_cast(x, stored, leaf.dtype), leaf.dtype)


def bits_of(dtype: np.dtype) -> np.dtype:
    """Returns the dtype in which numbers are moved: floating-point ones as integers of their bits,
    for a device that has no such numbers, as CPUs have no bfloat16, would cast them to move them,
    and change NaNs."""
    return np.dtype(f"u{dtype.itemsize}") if jnp.issubdtype(dtype, jnp.floating) else dtype


def _numbers(memory: jax.Array, shape: Shape, dtype: np.dtype) -> jax.Array:
    """Returns the numbers whose bytes are the first ones of the memory."""
    count = math.prod(shape)
    found = memory.reshape(-1)[: count * dtype.itemsize]
    if dtype == np.bool_:
        return found != 0
    if dtype.itemsize > 1:
        found = found.reshape(count, dtype.itemsize)
    return lax.bitcast_convert_type(found, dtype).reshape(shape)


def _cast(bits: jax.Array, stored: np.dtype, dtype: np.dtype) -> jax.Array:
    """Casts numbers given as their bits -> the bits of the result."""
    return bits if stored == dtype else _as(_as(bits, stored).astype(dtype), bits_of(dtype))


def _as(x: jax.Array, dtype: np.dtype) -> jax.Array:
    """Returns the same bits as another dtype."""
    return x if x.dtype == dtype else lax.bitcast_convert_type(x, dtype)


@functools.lru_cache(64)
def allocation(
    place: Place, leaves: tuple[tuple[Shape, np.dtype, tuple[Names, ...]], ...]
) -> Compiled:
    """Compiles the program that makes leaves of zeros: one for all, however many there are."""
    grids = [place.sharding(names) for _, _, names in leaves]

    def zeros() -> list[jax.Array]:
        return [jnp.zeros(shape, dtype) for shape, dtype, _ in leaves]

    return place.lowered(jax.jit(zeros, out_shardings=grids if place.committed else None))


def spec_of(names: tuple[Names, ...]) -> P:
    """Returns the spec of an array whose axes are divided along mesh axes."""
    return P(*(of or None for of in names))
