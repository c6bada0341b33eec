"""The keywords that say where params go by module, as one value."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from .budget import memory_limits
from .device_names import AUTOMATIC, one_place, place_of

MaxMemory: TypeAlias = Mapping[Any, int | str]
"""{device, its name or number, or "cpu": bytes, or "10GiB"}."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceMapOptions:
    """Where params go by module and by memory; see `docs/offload.md`.

    Attributes:
        device_map: a device, its name or number; {prefix of paths: device, "cpu" or "disk"}; or
            how to make such a map: "auto", "balanced", "balanced_low_0", "sequential".
        max_memory: {device, its name or number, or "cpu": bytes, or "10GiB"}.
        offload_folder: where params are written that are on the disk by the map and cannot be read
            from the checkpoint again and again.
        offload_buffers: as in Transformers; our models have no buffers.

    Raises:
        TypeError: values of the wrong kind.
        ValueError: a device that there is not, sizes that are none.
    """

    device_map: object = None
    max_memory: MaxMemory | None = None
    offload_folder: str | os.PathLike | None = None
    offload_buffers: bool = False

    def __post_init__(self) -> None:
        if self.device_map is None:
            if self.max_memory is not None:
                raise TypeError('max_memory is for a map that is made: give device_map="auto" too')
            if self.offload_folder is not None:
                raise TypeError(
                    "offload_folder is for params that a device_map leaves on the disk: give "
                    'device_map="auto" too'
                )
        elif isinstance(self.device_map, Mapping):
            for prefix, value in self.device_map.items():
                if not isinstance(prefix, str):
                    raise TypeError(f"device_map has the key {prefix!r:.80}; expected a path")
                place_of(value, f"device_map[{prefix!r}]")
        elif self.device_map not in AUTOMATIC:
            one_place(self.device_map)
        memory_limits(self.max_memory)
        if (folder := self.offload_folder) is None:
            return
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            raise TypeError(f"offload_folder is {folder!r:.80}; expected a path")
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise NotADirectoryError(f"offload_folder {os.fspath(folder)} is a file; name a folder")
