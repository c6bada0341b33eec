"""Pinned memory: host memory that a device reads by itself, at the speed of the bus."""

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from .copies import memory_of

KIND = "pinned_host"


def can_pin(device: jax.Device) -> bool:
    """Tells whether memory of the host is worth pinning for a device: a GPU copies what is not
    pinned into memory of its own that is, first. A TPU has no use for it, a CPU neither."""
    kinds = [memory.kind for memory in device.addressable_memories()]
    return device.platform == "gpu" and KIND in kinds


class Pinned:
    """Pinned memory for one device, which is read into like any other, and sent whole.

    Attributes:
        bytes: the memory, uint8, to be written. What was sent must have arrived.
    """

    def __init__(self, device: jax.Device, shape: tuple[int, ...]):
        self._device = device
        sharding = SingleDeviceSharding(device, memory_kind=KIND)
        self._array = jax.device_put(np.zeros(shape, np.uint8), sharding).block_until_ready()
        self.bytes = memory_of(self._array)

    def send(self) -> jax.Array:
        """Begins to copy the memory, as it is now, to the device."""
        return jax.device_put(self._array, SingleDeviceSharding(self._device))
