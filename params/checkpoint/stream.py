"""Streaming: from the files of a checkpoint into sharded arrays, one chunk per worker at a time.

A chunk is a run of rows of one tensor, small enough for a worker's share of the host memory. It is
read, turned into the leaf's layout as a view, cut into the shards that this process's devices
hold, put there, and dropped. The transposition is the host's; the cast is the device's.
"""

import dataclasses
import functools
import math
import os
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from ..formats.files import File
from ..formats.source import Bounds
from ..host.copies import TILE_ROWS, RowsApart, contiguous, copy, empty, empty_bytes
from ..host.threads import Modes
from ..tree.paths import unflatten
from .match import Piece
from .plan import LeafPlan, LoadPlan
from .room import check_room

_ROWS_CHUNK = 1 << 20  # bytes of rows whose columns are read
_LONG_ROW = 1024  # bytes
_LEAST_ROWS = 128  # of them, for shorter runs of the result cost more
_HOST_CHUNK = 8 << 20  # bytes; smaller ones cost calls, larger ones leave the cache
_WAITING = 16  # threads
_LOOK = 0.2  # seconds
_WASTE = 1.05  # bytes read over bytes held, above which shards are read one by one


def stream(plan: LoadPlan, *, progress: bool = True, workers: int | None = None) -> dict[str, Any]:
    """Reads what `plan` says -> the tree of its leaves, each on its devices and ready.

    Host memory in use beyond the finished params stays below `plan.max_host_memory`.

    Args:
        progress: show a bar in bytes if it takes longer than a second.
        workers: threads that read; as many as there are cores, at most 8, if None; 16 where they
            wait for a network.

    Raises:
        CheckpointError: a file that changed, or cannot be read any more; or params that are more
            than all the memory there is.
    """
    check_room(plan)
    files = _files(plan)
    most = _WAITING if any(file.is_remote for file in files) else min(8, os.cpu_count() or 1)
    workers = workers or max(1, min(most, len(plan.leaves)))
    with (
        tqdm(
            total=plan.stored_bytes, unit="B", unit_scale=True, delay=1, disable=not progress
        ) as bar,
        ThreadPoolExecutor(workers, thread_name_prefix="flaxmodels-load") as pool,
    ):
        # A chunk is at most in four places at once: read, transposed, cast, and on its device.
        loader = _Loader(plan.max_host_memory // (4 * workers), bar)
        modes = Modes.of_caller()
        try:
            for file in files:
                file.announce()
            for file in files:
                file.start()
            futures = {pool.submit(loader.leaf, leaf, modes): leaf.path for leaf in plan.leaves}
            # An exception that another thread raises in this one, as when a peer dies, arrives
            # between two waits: not in the middle of one.
            while wait(futures, _LOOK, FIRST_EXCEPTION).not_done and loader.error is None:
                pass
            if loader.error is not None:
                raise loader.error
            return unflatten({path: future.result() for future, path in futures.items()})
        except BaseException:  # Ctrl-C too: nothing goes on in the background
            loader.stop.set()
            for file in files:
                file.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _files(plan: LoadPlan) -> list[File]:
    """Returns the files that this process reads, in the order in which it does."""
    found: dict[File, None] = {}
    for leaf in plan.leaves:
        shards = _local_shards(leaf) if leaf.pieces[0].index else []
        for piece in leaf.pieces:
            if not piece.index or any(_holds(shard.bounds, piece.index) for shard in shards):
                found |= dict.fromkeys(span.file for span in piece.tensor.spans)
    return list(found)


def _holds(bounds: Bounds, index: tuple[int, ...]) -> bool:
    """Tells whether what belongs at `index` of the leading axes is in there."""
    return all(bounds[axis][0] <= i < bounds[axis][1] for axis, i in enumerate(index))


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A part of a leaf, and the devices of this process that hold it."""

    bounds: Bounds
    devices: tuple[jax.Device, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return _shape(self.bounds)


class _Loader:
    """Loads leaves; one scratch buffer per thread."""

    def __init__(self, chunk_bytes: int, bar: tqdm):
        self.chunk_bytes = chunk_bytes
        self.bar = bar
        self.local = threading.local()
        self.stop = threading.Event()
        self.error: BaseException | None = None

    def leaf(self, plan: LeafPlan, modes: Modes) -> jax.Array | None:
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
        shards = _local_shards(plan)
        held: dict[jax.Device, Any] = {}
        for group in _groups(shards):
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

    def _group(self, plan: LeafPlan, shards: list[_Shard], held: dict[jax.Device, Any]) -> None:
        """Reads the box around `shards` chunk by chunk and puts its parts on their devices."""
        for piece in plan.pieces:
            for bounds, block in self._chunks(piece, shards, plan.dtype):
                for shard in shards:
                    common = _intersection(bounds, shard.bounds)
                    if common is None:
                        continue
                    part = block[_relative(common, bounds)]
                    for device in shard.devices:
                        held[device] = self._put(
                            part, common, shard, device, plan, held.get(device)
                        )
                if not _all_on_host(shards):  # the scratch memory is still being read
                    jax.block_until_ready([held[d] for s in shards for d in s.devices if d in held])

    def _chunks(
        self, piece: Piece, shards: list[_Shard], dtype: np.dtype
    ) -> Iterator[tuple[Bounds, np.ndarray]]:
        """Yields (bounds in the leaf, the block that belongs there) of a piece around `shards`."""
        box, lead = _around(shards), len(piece.index)
        if not _holds(box, piece.index):
            return
        tensor = piece.tensor
        wanted = tuple(box[lead:][axis] for axis in np.argsort(piece.permutation))
        row = tensor.dtype.itemsize * math.prod(_shape(wanted[1:]))
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
                block = tensor.read_rows(part, self._rows(step, row))
            else:
                block = tensor.read(part, None if keep else self._scratch(row * (end - begin)))
            block = block.transpose(piece.permutation)
            self.bar.update(block.nbytes)
            here = tuple(part[axis] for axis in piece.permutation)
            bounds = (*((i, i + 1) for i in piece.index), *here)
            yield bounds, _canonical(block).reshape((1,) * lead + block.shape)

    def _put(
        self,
        part: np.ndarray,
        bounds: Bounds,
        shard: _Shard,
        device: jax.Device,
        plan: LeafPlan,
        held: Any,
    ) -> Any:
        """Returns what the device holds, with `part` in it: the part itself where it is all there
        is.

        A CPU device's array is put together in host memory, which it then keeps, and cast on the
        way. Elsewhere the array is cast when it is whole.
        """
        whole = bounds == shard.bounds
        here = _relative(bounds, shard.bounds)
        if _on_host(device):
            if whole and part.dtype == plan.dtype and not self._is_scratch(part):
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

    def _rows(self, count: int, nbytes: int) -> RowsApart:
        rows = getattr(self.local, "rows", None)
        if rows is None or rows.nbytes != nbytes or len(rows.views) < count:
            self.local.rows = None  # before there is another
            self.local.rows = rows = RowsApart(count, nbytes)
        return rows

    def _scratch(self, count: int) -> np.ndarray:
        scratch = getattr(self.local, "scratch", None)
        if scratch is None or scratch.nbytes < count:
            self.local.scratch = scratch = empty_bytes(count)
        return scratch

    def _is_scratch(self, part: np.ndarray) -> bool:
        rows, scratch = getattr(self.local, "rows", None), getattr(self.local, "scratch", None)
        used = (rows and rows.array, scratch)
        return any(memory is not None and np.may_share_memory(part, memory) for memory in used)


def _place(plan: LeafPlan, device: jax.Device) -> jax.Device | None:
    """Returns what to tell JAX of where an array goes: nothing, where that is its own choice."""
    return device if plan.committed else None


def _local_shards(plan: LeafPlan) -> list[_Shard]:
    devices: dict[Bounds, list[jax.Device]] = {}
    for device, index in plan.sharding.addressable_devices_indices_map(plan.shape).items():
        bounds = tuple(s.indices(size)[:2] for s, size in zip(index or (), plan.shape, strict=True))
        devices.setdefault(bounds, []).append(device)
    return [_Shard(bounds, tuple(where)) for bounds, where in devices.items()]


def _all_on_host(shards: list[_Shard]) -> bool:
    return all(_on_host(device) for shard in shards for device in shard.devices)


def _stays_on_host(piece: Piece, shards: list[_Shard]) -> bool:
    """Tells whether a block may become the params as it is: CPU devices, the checkpoint's own
    layout, and shards that are runs of its rows."""
    box = _around(shards)
    return (
        _all_on_host(shards)
        and not piece.index
        and piece.permutation == tuple(range(len(box)))
        and all(shard.bounds[1:] == box[1:] for shard in shards)
    )


def _groups(shards: list[_Shard]) -> list[list[_Shard]]:
    """Returns all shards together if the box around them is hardly larger than they are, else
    each."""
    box = math.prod(_shape(_around(shards)))
    held = sum(math.prod(shard.shape) for shard in shards)
    return [shards] if box <= _WASTE * held else [[shard] for shard in shards]


def _around(shards: list[_Shard]) -> Bounds:
    return tuple(
        (min(start for start, _ in dimension), max(stop for _, stop in dimension))
        for dimension in zip(*(shard.bounds for shard in shards), strict=True)
    )


def _shape(bounds: Bounds) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in bounds)


def _intersection(a: Bounds, b: Bounds) -> Bounds | None:
    common = tuple((max(p[0], q[0]), min(p[1], q[1])) for p, q in zip(a, b, strict=True))
    return common if all(start < stop for start, stop in common) else None


def _relative(bounds: Bounds, origin: Bounds) -> tuple[slice, ...]:
    return tuple(
        slice(start - base, stop - base)
        for (start, stop), (base, _) in zip(bounds, origin, strict=True)
    )


def _canonical(block: np.ndarray) -> np.ndarray:
    """Returns `block` in a dtype that JAX holds: without x64, 64-bit numbers become 32-bit ones."""
    return block.astype(jax.dtypes.canonicalize_dtype(block.dtype), copy=False)


def _on_host(device: jax.Device) -> bool:
    return device.platform == "cpu"


def _cast(arrays: list[jax.Array], dtype: np.dtype) -> list[jax.Array]:
    """Returns one array of each device, in `dtype`.

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
