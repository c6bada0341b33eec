"""Threads: work that knows nothing of what its caller is in the middle of, and work shared out.

Under `jax.jit`, `shard_map` and their like what a function makes belongs to the trace, and a
context such as `jax.set_mesh` or `jax.disable_jit` changes where and how it is made. All of that
belongs to a thread. So what must not depend on it, such as loading, is done by another thread.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

T = TypeVar("T")
R = TypeVar("R")
_TASK = 4 << 20  # bytes, below which other threads cost more than they save


def run_untraced(work: Callable[[], T]) -> T:
    """Returns `work()`, done in a thread that knows nothing of the caller but its `Modes`."""
    modes = Modes.of_caller()
    with ThreadPoolExecutor(1, thread_name_prefix="flaxmodels-untraced") as pool:
        return pool.submit(modes.run, work).result()


def in_threads(work: Callable[[T], R], items: Sequence[T], nbytes: int) -> list[R]:
    """Returns `work` of every item, done by several threads if `nbytes` of memory pay for them."""
    count = min(8, os.cpu_count() or 1, len(items)) if nbytes >= _TASK else 1
    if count < 2:
        return list(map(work, items))
    with ThreadPoolExecutor(count, thread_name_prefix="flaxmodels-leaf") as pool:
        return list(pool.map(work, items))


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Puts this thread out of the modes that look at values, take programs apart or forbid
    transfers: a NaN that a file or a leaf holds is no error."""
    with (
        jax.disable_jit(False),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.transfer_guard("allow"),
    ):
        yield


@dataclasses.dataclass(frozen=True)
class Modes:
    """What of the caller's contexts decides what a load gives.

    Attributes:
        x64: whether there are 64-bit dtypes.
        device: the default device.
    """

    x64: bool
    device: jax.Device

    @classmethod
    def of_caller(cls) -> "Modes":
        return cls(jax.dtypes.canonicalize_dtype(np.int64).itemsize == 8, default_device())

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Puts this thread into these modes, and out of those that `unwatched` names."""
        with jax.enable_x64(self.x64), jax.default_device(self.device), unwatched():
            yield

    def run(self, work: Callable[[], T]) -> T:
        """Returns `work()`, done in these modes."""
        with self.entered():
            return work()


def default_device() -> jax.Device:
    """Returns the device on which JAX makes an array that it is told no device for."""
    config: Any = jax.config  # whose options have no types
    device = config.jax_default_device
    if isinstance(device, str):
        return jax.local_devices(backend=device)[0]
    return device or jax.local_devices()[0]


def default_sharding() -> SingleDeviceSharding:
    """Returns the sharding of an array that JAX is told no device for."""
    return SingleDeviceSharding(default_device())
