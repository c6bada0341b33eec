"""Loading a leaf: read chunk by chunk, put together where its shards are, and cast.

A chunk is a run of rows of one tensor, small enough for a worker's share of the host memory. It is
read, turned into the leaf's layout as a view, cut into the shards that this process's devices
hold, put there, and dropped. The transposition is the host's; the cast is the device's.
"""

import dataclasses
import functools
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from ..formats.bounds import around, holds, intersection, relative, shape_of
from ..formats.files import File
from ..formats.source import Bounds
from ..host.copies import TILE_ROWS, RowsApart, Scratch, contiguous, copy, empty
from ..host.threads import Modes
from ..types import Concrete
from .leaf_plan import LeafPlan, Shard, groups, local_shards
from .match import Piece

_ROWS_CHUNK = 1 << 20  # bytes of rows whose columns are read
_LONG_ROW = 1024  # bytes
_LEAST_ROWS = 128  # of them, for shorter runs of the result cost more
_HOST_CHUNK = 8 << 20  # bytes; smaller ones cost calls, larger ones leave the cache


def files_of(plan: LeafPlan) -> Iterator[File]:
    """Yields the files that this process reads for a leaf, in the order in which it does."""
    alone = plan.pieces[0].index and plan.route.kind != "packed"  # which is read whole
    shards = local_shards(plan) if alone else []
    for piece in plan.pieces:
        if not alone or any(holds(shard.bounds, piece.index) for shard in shards):
            yield from (span.file for span in piece.tensor.spans)


class ReadScratch(Scratch):
    """Memory that a thread reads into again and again."""

    def __init__(self):
        super().__init__()
        self._rows: RowsApart | None = None

    def rows(self, count: int, nbytes: int) -> RowsApart:
        """Returns `count` rows of `nbytes`, or more rows."""
        if self._rows is None or self._rows.nbytes != nbytes or len(self._rows.views) < count:
            self._rows = None  # before there is another
            self._rows = RowsApart(count, nbytes)
        return self._rows

    def has(self, part: np.ndarray) -> bool:
        """Tells whether an array is a view of it."""
        used = [*self.held.values(), *([self._rows.array] if self._rows else [])]
        return any(np.may_share_memory(part, memory) for memory in used)


class LeafLoader:
    """Loads leaves, by several threads at a time.

    Attributes:
        stop: once it is set, no leaf is begun or gone on with.
        error: the first one that a leaf raised.
    """

    def __init__(self, chunk_bytes: int, bar: tqdm):
        self.chunk_bytes = chunk_bytes
        self.bar = bar
        self.scratch = ReadScratch()
        self.stop = threading.Event()
        self.error: BaseException | None = None

    def load_each(self, plans: Sequence[LeafPlan], modes: Modes) -> dict[str, jax.Array | None]:
        """Returns leaves by their paths, loaded one after the other."""
        return {plan.path: self.load(plan, modes) for plan in plans}

    def load(self, plan: LeafPlan, modes: Modes) -> jax.Array | None:
        """Returns the leaf; None once another leaf has failed."""
        if self.stop.is_set():
            return None
        device = modes.device if plan.committed else next(iter(plan.sharding.device_set))
        try:
            with dataclasses.replace(modes, device=device).entered():
                return self._leaf(plan)
        except BaseException as error:
            self.error = self.error or error
            self.stop.set()
            raise

    def _leaf(self, plan: LeafPlan) -> jax.Array:
        shards = local_shards(plan)
        held: dict[jax.Device, Any] = {}
        for group in groups(shards):
            self._group(plan, group, held)
        if math.prod(plan.shape) == 0:  # nothing was read
            held = {d: np.empty(s.shape, plan.dtype) for s in shards for d in s.devices}
        arrays = [jax.device_put(part, _place(plan, device)) for device, part in held.items()]
        arrays = _cast(arrays, plan.dtype)
        if not plan.committed:
            return jax.block_until_ready(arrays[0])
        kind = plan.sharding.memory_kind
        if kind not in (None, *(array.sharding.memory_kind for array in arrays)):
            arrays = [
                jax.device_put(array, SingleDeviceSharding(device, memory_kind=kind))
                for array, device in zip(arrays, held, strict=True)
            ]
        array = jax.make_array_from_single_device_arrays(plan.shape, plan.sharding, arrays)
        return jax.block_until_ready(array)

    def _group(self, plan: LeafPlan, shards: list[Shard], held: dict[jax.Device, Any]) -> None:
        """Reads the box around `shards` chunk by chunk and puts its parts on their devices."""
        for piece in plan.pieces:
            for bounds, block in self._chunks(piece, shards, plan.dtype):
                for shard in shards:
                    common = intersection(bounds, shard.bounds)
                    if common is None:
                        continue
                    part = block[relative(common, bounds)]
                    for device in shard.devices:
                        held[device] = self._put(
                            part, common, shard, device, plan, held.get(device)
                        )
                if not _all_on_host(shards):  # the scratch memory is still being read
                    jax.block_until_ready([held[d] for s in shards for d in s.devices if d in held])

    def _chunks(
        self, piece: Piece, shards: list[Shard], dtype: np.dtype
    ) -> Iterator[tuple[Bounds, np.ndarray]]:
        """Yields (bounds in the leaf, the block that belongs there) of a piece around `shards`."""
        box, lead = around(shard.bounds for shard in shards), len(piece.index)
        if not holds(box, piece.index):
            return
        tensor = piece.tensor
        wanted = tuple(box[lead:][axis] for axis in np.argsort(piece.permutation))
        row = tensor.dtype.itemsize * math.prod(shape_of(wanted[1:]))
        first, last = wanted[0] if wanted else (0, 1)
        keep = tensor.dtype == dtype and _stays_on_host(piece, shards)
        step = self.chunk_bytes // max(row, 1)
        on_host = _all_on_host(shards)
        apart = on_host and piece.permutation == (1, 0) and row >= _LONG_ROW
        apart = apart and tensor.has_rows(wanted)
        if keep:
            step = last - first
        elif apart:
            step = min(step, max(_LEAST_ROWS, min(TILE_ROWS, _ROWS_CHUNK // max(row, 1))))
        elif on_host:
            step = min(step, max(TILE_ROWS, _HOST_CHUNK // max(row, 1)))
        step = max(1, step)
        for begin in range(first, last, step):
            if self.stop.is_set():
                raise CancelledError
            end = min(begin + step, last)
            part = ((begin, end), *wanted[1:]) if wanted else ()
            if apart:
                block = tensor.read_rows(part, self.scratch.rows(step, row))
            else:
                block = tensor.read(part, None if keep else self.scratch.bytes(row * (end - begin)))
            block = block.transpose(piece.permutation)
            self.bar.update(block.size * tensor.nbytes // max(1, math.prod(tensor.shape)))
            here = tuple(part[axis] for axis in piece.permutation)
            bounds = (*((i, i + 1) for i in piece.index), *here)
            held = jax.dtypes.canonicalize_dtype(block.dtype)  # 64-bit numbers need x64
            yield bounds, block.astype(held, copy=False).reshape((1,) * lead + block.shape)

    def _put(
        self,
        part: np.ndarray,
        bounds: Bounds,
        shard: Shard,
        device: jax.Device,
        plan: LeafPlan,
        held: Any,
    ) -> Concrete:
        """Returns what the device holds, `part` in it: the part itself where that is all of it.

        A CPU device's array is put together in host memory, which it then keeps, and cast on the
        way. Elsewhere the array is cast when it is whole.
        """
        whole = bounds == shard.bounds
        here = relative(bounds, shard.bounds)
        if _on_host(device):
            if whole and part.dtype == plan.dtype and not self.scratch.has(part):
                return jax.device_put(part, _place(plan, device))
            if held is None:
                held = empty(shard.shape, plan.dtype)
            copy(part, held[(*here, ...)])
            return held
        part = jax.device_put(contiguous(part), _place(plan, device))
        if whole:
            return part
        if held is None:
            held = jnp.zeros(shard.shape, part.dtype, device=_place(plan, device))
        return _update(held, part, [cut.start for cut in here])


def _place(plan: LeafPlan, device: jax.Device) -> jax.Device | None:
    """Returns the device to name to JAX: none, where the device is JAX's own choice."""
    return device if plan.committed else None


def _all_on_host(shards: list[Shard]) -> bool:
    return all(_on_host(device) for shard in shards for device in shard.devices)


def _stays_on_host(piece: Piece, shards: list[Shard]) -> bool:
    """Tells whether a block may become the params uncopied: CPU devices, the checkpoint's own
    layout, and shards that are runs of its rows."""
    box = around(shard.bounds for shard in shards)
    return (
        _all_on_host(shards)
        and not piece.index
        and piece.permutation == tuple(range(len(box)))
        and all(shard.bounds[1:] == box[1:] for shard in shards)
    )


def _on_host(device: jax.Device) -> bool:
    return device.platform == "cpu"


def _cast(arrays: list[jax.Array], dtype: np.dtype) -> list[jax.Array]:
    """Casts one array of each device.

    Arrays of one shape are cast in one computation, compiled once, which no other process takes
    part in: the processes of a run load their leaves in any order.
    """
    if all(array.dtype == dtype for array in arrays):
        return arrays
    first, devices = arrays[0], [array.device for array in arrays]
    if not first.ndim or any(array.shape != first.shape for array in arrays):
        return [_astype(array, dtype) for array in arrays]
    mesh = Mesh(np.array(devices), ("device",), axis_types=(AxisType.Auto,))
    joined = jax.make_array_from_single_device_arrays(
        (len(arrays) * first.shape[0], *first.shape[1:]), NamedSharding(mesh, P("device")), arrays
    )
    shards = {shard.device: shard.data for shard in _astype(joined, dtype).addressable_shards}
    return [shards[device] for device in devices]


@functools.partial(jax.jit, static_argnums=1)
def _astype(array: jax.Array, dtype: np.dtype) -> jax.Array:
    return array.astype(dtype)


@functools.partial(jax.jit, donate_argnums=0)
def _update(held: jax.Array, part: jax.Array, start: list[int]) -> jax.Array:
    return jax.lax.dynamic_update_slice(held, part, start)
