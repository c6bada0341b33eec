"""Places: devices by their names, host memory, and the disk."""

import operator
import re
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from ..params.errors import quoted

HOST, DISK = "cpu", "disk"
Place = jax.Device | str
"""A device, `HOST` or `DISK`."""

AUTOMATIC = ("auto", "balanced", "balanced_low_0", "sequential")
_NAMED = re.compile(r"([a-z]+)(?::([0-9]{1,9}))?")
_BACKENDS = {"cuda": "gpu", "gpu": "gpu", "rocm": "gpu", "tpu": "tpu", "cpu": "cpu"}


def place_of(value: object, name: str = "device_map") -> Place:
    """Returns the place that a value of a map means: a device or its name ("cuda:1", "gpu",
    "tpu:3", "cpu:0"), the number of one, "cpu" for host memory, "disk".

    Args:
        name: of the value, for errors.

    Raises:
        TypeError: a value of another kind.
        ValueError: no such device here.
    """
    if isinstance(value, str) and value in (HOST, DISK):
        return value
    return one_place(value, name)


def one_place(value: Any, name: str = "device_map") -> jax.Device:
    """Returns the device that a value means; "cpu" is the first CPU device. Raises as
    `place_of`."""
    devices = jax.local_devices()
    if isinstance(value, jax.Device):
        if value.process_index != jax.process_index():
            raise ValueError(f"{name} is {value}, which is another process's")
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = operator.index(value)
        if not 0 <= number < len(devices):
            raise ValueError(
                f"{name} is {number}, and the devices of this process are 0 to {len(devices) - 1}: "
                f"{_shown(devices)}"
            )
        return devices[number]
    if not isinstance(value, str):
        raise TypeError(
            f"{name} is {value!r:.80}; expected a device, its name or number, or a map from "
            "prefixes of paths to these"
        )
    found = _NAMED.fullmatch(value.strip().lower())
    if found is None or found[1] not in _BACKENDS:
        raise ValueError(
            f"{name} is {quoted(value)}; expected one of {', '.join(AUTOMATIC)}, a name such as "
            f'"cuda:0", "tpu:0" or "cpu", or in a map "cpu" or "disk"; the devices here are '
            f"{_shown(devices)}"
        )
    number = int(found[2] or 0)
    if _BACKENDS[found[1]] == devices[0].platform:
        backend = devices
    else:
        try:
            backend = jax.local_devices(backend=_BACKENDS[found[1]])
        except RuntimeError:
            backend = []
    if number >= len(backend):
        raise ValueError(
            f"{name} is {quoted(value)}, and there is no such device; there are {_shown(devices)}"
        )
    return backend[number]


def devices_of(places: Iterable[Place]) -> list[jax.Device]:
    """Returns those places that are devices."""
    return [place for place in places if not isinstance(place, str)]


def text_of(place: Place) -> str:
    """Returns a place as a person reads it."""
    if isinstance(place, str):
        return {HOST: "host memory", DISK: "disk"}[place]
    return f"{place.platform}:{place.id}"


def _shown(devices: list[jax.Device]) -> str:
    names = [text_of(device) for device in devices]
    return ", ".join(names if len(names) < 9 else [*names[:8], f"... ({len(names)})"])
