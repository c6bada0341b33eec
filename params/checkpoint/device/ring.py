"""The ring: host memory that is read into, and used again once devices have what it held."""

from collections.abc import Sequence

import jax
import numpy as np

from ...host.copies import CACHE_LINE, empty_bytes
from .programs import Place


class Slot:
    """Memory for what a process reads of one step.

    Attributes:
        token: ready when the devices have read what the memory held; None if it never held any.
    """

    def __init__(self, nbytes: int):
        self._memory = empty_bytes(nbytes)
        self._used = 0
        self.token: jax.Array | None = None

    def clear(self) -> None:
        """Forgets what it held; the token must be ready."""
        self._used, self.token = 0, None

    def take(self, nbytes: int) -> np.ndarray:
        """Returns bytes that are not in use, on a boundary that a CPU device takes as it is."""
        start = self._used
        self._used += padded(nbytes)
        return self._memory[start : start + nbytes]


def padded(nbytes: int) -> int:
    """Returns how many bytes of a slot so many take."""
    return -(-nbytes // CACHE_LINE) * CACHE_LINE


def send(place: Place, parts: Sequence[tuple[jax.Device, np.ndarray]]) -> jax.Array:
    """Sends what each device of this process gets -> the array of all blocks."""
    if place.mesh is None:
        ((device, part),) = parts
        return jax.device_put(part, device if place.committed else None)
    rank = place.mesh.devices.ndim
    arrays = [jax.device_put(part.reshape((1,) * rank + part.shape), d) for d, part in parts]
    block = place.block(parts[0][1].shape, parts[0][1].dtype)
    return jax.make_array_from_single_device_arrays(block.shape, block.sharding, arrays)
