"""Fetching: the leaves of one layer after another brought to their device, one layer ahead.

While a layer is computed, a thread reads the next one. Two layers are on the device at a time, and
of those that are in files two sets of buffers in host memory, which are read into again and again.
"""

import contextlib
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from ..params.checkpoint.device.steps import padded
from ..params.checkpoint.disk_leaf import DiskLeaf, Recipe
from ..params.formats.files import File
from ..params.host.copies import empty_bytes
from ..params.host.threads import Modes
from .leaves import PlacedLeaf, device_for, is_offloaded

UnitLeaves: TypeAlias = Mapping[str, PlacedLeaf]
"""{path: leaf} of what is fetched together."""

AHEAD = 1
"""Layers that are fetched while one is computed. With one the reader never waits but for its turn,
and a pass takes as long as reading or computing, whichever is slower. The room of a second one
holds a layer for good, which is then not brought at all."""


class Fetched(NamedTuple):
    """Leaves on the device that computes with them.

    Attributes:
        arrays: {path: array}, of a leaf in a file what the file holds.
        recipes: what makes leaves of those.
        is_streamed: whether some of them were brought there for this pass.
    """

    device: jax.Device
    arrays: dict[str, jax.Array]
    recipes: tuple[tuple[str, Recipe], ...]
    is_streamed: bool


class Buffers:
    """Host memory that files are read into, kept between passes. It is borrowed by one pass at a
    time: another one that runs meanwhile gets memory of its own."""

    def __init__(self):
        self._free: list[np.ndarray] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def borrowed(self, nbytes: int) -> Iterator[list[np.ndarray]]:
        """Gives `AHEAD + 1` buffers of at least `nbytes`."""
        with self._lock:
            taken, self._free = self._free, []
        if any(len(buffer) < nbytes for buffer in taken):
            taken = []
        while len(taken) < AHEAD + 1:
            taken.append(empty_bytes(nbytes))
        yield taken
        with self._lock:  # not after an error: what failed may still be read from
            self._free = taken


_BUFFERS: "weakref.WeakKeyDictionary[File, Buffers]" = weakref.WeakKeyDictionary()
"""Of the file that the first leaf is in: they go when its tree does."""


def fetched_in_turn(
    units: Sequence[UnitLeaves], main: jax.Device | None = None
) -> Iterator[Fetched]:
    """Yields units of leaves, each on its device, the next one being read meanwhile. Whoever takes
    the next must have finished with the last one: its memory is used again."""
    sizes = [_buffer_bytes(unit) for unit in units]
    if not any(is_offloaded(leaf) for unit in units for leaf in unit.values()):
        yield from (_fetch(unit, main, None) for unit in units)
        return
    modes = Modes.of_caller()

    def fetch(unit: UnitLeaves, buffer: np.ndarray) -> Fetched:
        with modes.entered():
            return _fetch(unit, main, buffer)

    borrowed = _buffers_of(units).borrowed(max(sizes))
    with borrowed as buffers, ThreadPoolExecutor(1, "flaxmodels-fetch") as pool:
        coming = [
            pool.submit(fetch, unit, buffers[i % len(buffers)])
            for i, unit in enumerate(units[: AHEAD + 1])
        ]
        try:
            for number in range(len(units)):
                unit = coming.pop(0).result()
                yield unit
                unit.arrays.clear()
                after = number + AHEAD + 1
                if after < len(units):
                    buffer = buffers[after % len(buffers)]
                    coming.append(pool.submit(fetch, units[after], buffer))
        except BaseException:  # an error, or who takes them goes away
            pool.shutdown(cancel_futures=True)
            raise


def _buffers_of(units: Sequence[UnitLeaves]) -> Buffers:
    for leaf in (leaf for unit in units for leaf in unit.values()):
        if isinstance(leaf, DiskLeaf) and leaf.tensor.spans:
            return _BUFFERS.setdefault(leaf.tensor.spans[0].file, Buffers())
    return Buffers()


def fetched(unit: UnitLeaves, main: jax.Device | None = None) -> Fetched:
    """Returns one unit of leaves on its device."""
    size = _buffer_bytes(unit)
    return _fetch(unit, main, empty_bytes(size) if size else None)


def _buffer_bytes(unit: UnitLeaves) -> int:
    leaves = [leaf for leaf in unit.values() if isinstance(leaf, DiskLeaf)]
    return sum(padded(leaf.tensor.nbytes) for leaf in leaves)


def _fetch(unit: UnitLeaves, main: jax.Device | None, buffer: np.ndarray | None) -> Fetched:
    device = device_for(unit.values(), main)
    arrays, recipes, start = {}, [], 0
    is_streamed = any(map(is_offloaded, unit.values()))
    for path, leaf in unit.items():
        if isinstance(leaf, DiskLeaf):
            assert buffer is not None
            # On a CPU device the array may be this memory itself.
            array = leaf.tensor.read(scratch=buffer[start:])
            start += padded(leaf.tensor.nbytes)
            recipes.append((path, leaf.recipe))
            is_there = False
        else:
            # A CPU device's memory is the host's: the array there is of the same memory.
            array = np.asarray(leaf) if device.platform == "cpu" and is_offloaded(leaf) else leaf
            is_there = leaf.sharding == SingleDeviceSharding(device)
        if not is_there:
            array = jax.device_put(array, SingleDeviceSharding(device))
        arrays[path] = array
    if is_streamed:  # the buffer is read from until they are there
        jax.block_until_ready([*arrays.values()])
    return Fetched(device, arrays, tuple(recipes), is_streamed)
