"""The ring: host memory that is read into, and used again once devices have what it held."""

import jax
import numpy as np

from ...host.copies import empty_bytes
from ...host.pinned import Pinned
from .programs import Place, bits_of
from .steps import Part, padded


class Slot:
    """Memory for what a process reads of one step.

    Attributes:
        token: ready when the devices have read what the memory held; None if it never held any.
    """

    def __init__(self, nbytes: int):
        self._memory = empty_bytes(nbytes)
        self._pinned: dict[tuple[jax.Device, tuple[int, ...]], Pinned] = {}
        self._used = 0
        self._taken: list[tuple[Part, np.ndarray]] = []
        self.token: jax.Array | None = None

    def clear(self) -> None:
        """Forgets what it held; the token must be ready."""
        self._used, self.token = 0, None
        self._taken.clear()

    def take(self, part: Part, place: Place) -> np.ndarray:
        """Returns memory for a part, one number after the other."""
        if part.capacity:
            (device,) = part.devices
            key = device, place.block_shape((part.capacity,))
            if key not in self._pinned:
                self._pinned[key] = Pinned(*key)
            array = self._pinned[key].bytes[: part.nbytes].view(part.dtype)
        else:
            start = self._used
            self._used += padded(part.nbytes)
            array = self._memory[start : start + part.nbytes].view(part.dtype)
        self._taken.append((part, array))
        return array

    def send(self, place: Place) -> jax.Array:
        """Sends what was taken to its devices -> the array of which each has a block."""
        arrays = []
        for part, array in self._taken:
            if part.capacity:
                (device,) = part.devices
                arrays.append(self._pinned[device, place.block_shape((part.capacity,))].send())
                continue
            block = array.view(bits_of(part.dtype)).reshape(place.block_shape(part.shape))
            for device in part.devices:
                arrays.append(jax.device_put(block, device if place.committed else None))
        if place.mesh is None:
            return arrays[0]
        shape = (*place.mesh.devices.shape, *arrays[0].shape[place.mesh.devices.ndim :])
        return jax.make_array_from_single_device_arrays(shape, place.blocks, arrays)
