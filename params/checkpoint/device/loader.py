"""Loading on devices: threads read into a ring, and one launches what sends and places it.

Steps are launched in plan order by one thread, for devices of several processes exchange what they
read: another order, or a launch left out, would leave the others waiting. So a process that cannot
read launches on, without reading, and raises its error when all is launched.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.stages import Compiled
from tqdm import tqdm

from ... import peers
from ...formats.bounds import shape_of
from ...formats.source import Bounds, Tensor
from ...host.threads import Modes
from ..leaf_plan import LeafPlan
from .grid import grid_of
from .programs import Place, Unpack, Update, allocation, place_of
from .ring import Slot
from .routes import RING, Limits
from .steps import Step, programs_of, slot_bytes, steps_of

_AHEAD = RING // 2  # steps that are being read while the others are on their way
_RUN = 8 << 20  # bytes that one thread reads at a time
_LOOK = 1e-4  # seconds


class _Reading(NamedTuple):
    """A step whose bytes are on their way into a slot."""

    step: Step
    slot: Slot
    reads: list[Future[None]]


class DeviceLoader:
    """Loads the leaves that devices transform.

    Attributes:
        stop: once it is set, nothing is begun or gone on with.
        error: the first one; while processes depend on one another, steps are launched on.
    """

    def __init__(self, leaves: Sequence[LeafPlan], limits: Limits, workers: int, bar: tqdm):
        self.leaves = [leaf for leaf in leaves if leaf.route.kind != "host"]
        self.limits = limits
        self.workers = workers
        self.bar = bar
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._held: dict[str, jax.Array] = {}

    @property
    def spans_processes(self) -> bool:
        """Whether other processes wait for what this one launches."""
        return any(place_of(leaf).spans_processes for leaf in self.leaves)

    def load(self, modes: Modes) -> dict[str, jax.Array]:
        """Returns the leaves by path, each on its devices and ready."""
        if not self.leaves:
            return {}
        with (
            modes.entered(),
            ThreadPoolExecutor(self.workers, thread_name_prefix="flaxmodels-load") as pool,
        ):
            try:
                self._run(pool)
            except BaseException as error:
                self.error = self.error or error
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        if self.error is not None:
            raise self.error
        return {leaf.path: _as_asked(self._held[leaf.path], leaf) for leaf in self.leaves}

    def fail(self, error: BaseException) -> None:
        """Lets nothing more be read, for an error that this loader raises in the end."""
        self.error = self.error or error
        if not self.spans_processes:
            self.stop.set()

    def _run(self, pool: ThreadPoolExecutor) -> None:
        modes = Modes.of_caller()
        compiling = {
            program: pool.submit(modes.run, program.compiled)
            for program in programs_of(self.leaves, self.limits)
        }
        size = slot_bytes(self.leaves, self.limits)
        ring = deque(Slot(size) for _ in range(RING))
        reading = deque[_Reading]()
        for number, step in enumerate(steps_of(self.leaves, self.limits)):
            if len(reading) == _AHEAD:
                self._launch(reading.popleft(), compiling)
            slot = ring[0]
            ring.rotate(-1)
            self._wait(slot)
            reading.append(self._begin(step, slot, pool))
            if number == 0:
                self._allocate()
        while reading:
            self._launch(reading.popleft(), compiling)
        for slot in ring:
            self._wait(slot)

    def _allocate(self) -> None:
        """Makes the leaves that are not packed: what a device holds is there from the start."""
        groups: dict[Place, list[LeafPlan]] = {}
        for leaf in self.leaves:
            if leaf.route.cut is not None:
                groups.setdefault(place_of(leaf), []).append(leaf)
        for place, leaves in groups.items():
            wanted = tuple((leaf.shape, leaf.dtype, grid_of(leaf).names) for leaf in leaves)
            arrays = allocation(place, wanted)()
            self._held |= {leaf.path: x for leaf, x in zip(leaves, arrays, strict=True)}

    def _begin(self, step: Step, slot: Slot, pool: ThreadPoolExecutor) -> _Reading:
        slot.clear()
        reads = []
        for part in step.parts:
            array = slot.take(part, step.place)
            if self.error is not None:
                continue
            for tensor, bounds, first in part.reads:
                for some, skipped in _runs(tensor, bounds):
                    target = array[first + skipped :].view(np.uint8)
                    reads.append(pool.submit(self._read, tensor, some, target))
        return _Reading(step, slot, reads)

    def _read(self, tensor: Tensor, bounds: Bounds, target: np.ndarray) -> None:
        if self.stop.is_set():
            raise CancelledError
        if self.error is None:
            self.bar.update(tensor.read(bounds, target).nbytes)

    def _launch(
        self, reading: _Reading, compiling: Mapping[Update | Unpack, Future[Compiled]]
    ) -> None:
        step = reading.step
        for read in reading.reads:
            try:
                self._until(read.done)
                read.result()
            except Exception as error:
                if self.stop.is_set() or not self.spans_processes:
                    raise
                self.fail(error)
        chunk = reading.slot.send(step.place)
        compiled = compiling[step.program]
        self._until(compiled.done)
        program = compiled.result()
        if step.start:
            (path,) = step.paths
            start = np.asarray(step.start, np.int32)
            self._held[path], reading.slot.token = program(self._held[path], chunk, start)
        else:
            leaves, reading.slot.token = program(chunk)
            self._held |= dict(zip(step.paths, leaves, strict=True))

    def _wait(self, slot: Slot) -> None:
        """Waits until devices have read what a slot holds."""
        if slot.token is None:
            return
        token: Any = slot.token  # whose method the abstract class does not declare
        self._until(token.is_ready)
        try:
            slot.token.block_until_ready()
        except jax.errors.JaxRuntimeError as error:
            if self.spans_processes:
                raise peers.explained(error) from error
            raise

    def _until(self, done: Callable[[], bool]) -> None:
        """Waits in a way that ends when `stop` is set: a call of the runtime's would not, where
        another process has died."""
        while not done():
            if self.stop.wait(_LOOK):
                raise CancelledError


def _runs(tensor: Tensor, bounds: Bounds) -> list[tuple[Bounds, int]]:
    """Cuts a part of a tensor into what threads read -> (the run, elements before it)."""
    shape = shape_of(bounds)
    axis = next((i for i, size in enumerate(shape) if size > 1), 0)
    if not shape or not tensor.divides:
        return [(bounds, 0)]
    row = int(np.prod(shape[axis + 1 :], dtype=np.int64))
    first, last = bounds[axis]
    step = max(1, _RUN // max(1, row * tensor.dtype.itemsize))
    return [
        (
            (*bounds[:axis], (begin, min(begin + step, last)), *bounds[axis + 1 :]),
            (begin - first) * row,
        )
        for begin in range(first, last, step)
    ]


def _as_asked(array: jax.Array, leaf: LeafPlan) -> jax.Array:
    """Returns an array with the very sharding that was asked for."""
    array.block_until_ready()
    if not leaf.committed:
        return array
    shards = [shard.data for shard in array.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)
