"""Plans of a `device_map` to print: who holds what, what is brought for a token, and how long."""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Mapping

import jax

from .. import sharding as fs
from ..core.model import Mixin
from ..params.sizes import format_size
from ..params.tree.cast import DtypeLike
from ..params.tree.measure import format_table, nbytes
from ..params.tree.paths import flatten
from .budget import brought_of, ring_bytes
from .device_map import DeviceMap, device_map_of
from .device_names import DISK, HOST, Place, devices_of, text_of
from .options import DeviceMapOptions, MaxMemory


@dataclasses.dataclass(frozen=True, repr=False)
class PlacementPlan:
    """What a `device_map` gives; `print` it to see it.

    Attributes:
        device_map: where each leaf is.
        sizes: {path: bytes}.
        rates: of the estimate.
    """

    device_map: DeviceMap
    sizes: Mapping[str, int]
    rates: fs.Rates

    @functools.cached_property
    def held(self) -> Mapping[Place, int]:
        """Bytes of params at each place."""
        held = Counter()
        for path, size in self.sizes.items():
            held[self.device_map.where[path]] += size
        return held

    @property
    def peaks(self) -> dict[jax.Device, int]:
        """Bytes of params on each device at most: those that it holds, and on the first one the
        layers that are brought there. Caches and activations come on top."""
        main, ring = self.device_map.main, self._ring
        there = {device: self.held[device] for device in devices_of(self.held)}
        return there | ({main: there.get(main, 0) + ring} if ring else {})

    @functools.cached_property
    def _ring(self) -> int:
        return ring_bytes(brought_of(self.device_map.units, self.device_map.where))

    @property
    def seconds_per_token(self) -> float:
        """The time of a token at batch 1: all params are read from devices' memory once, while
        those that are elsewhere are brought; whichever takes longer."""
        host, disk = self.held.get(HOST, 0), self.held.get(DISK, 0)
        brought = (host + disk) / self.rates.bus, disk / self.rates.disk
        return max(sum(self.sizes.values()) / self.rates.memory, *brought)

    def __repr__(self) -> str:
        rows = [("place", "modules", "params", "peak")]
        peaks: dict[Place, int] = {**self.peaks}
        beside = [place for place in (HOST, DISK) if place in self.held]
        for place in [*peaks, *beside]:
            size, most = self.held.get(place, 0), peaks.get(place, self.held.get(place, 0))
            rows.append(
                (text_of(place), self._modules(place), format_size(size), format_size(most))
            )
        brought = self.held.get(HOST, 0) + self.held.get(DISK, 0)
        rates = self.rates
        return "\n".join(
            [
                f"placement of {format_size(sum(self.sizes.values()))}",
                *("  " + line for line in format_table(rows, numeric=(2, 3)).splitlines()),
                f"  brought for each token: {format_size(brought)}, "
                f"{format_size(self._ring)} of {text_of(self.device_map.main)} at a time",
                f"  {self.seconds_per_token:.3g} s a token at batch 1, with memory of "
                f"{rates.memory / 1e9:g} GB/s, a bus of {rates.bus / 1e9:g}, a disk of "
                f"{rates.disk / 1e9:g}",
            ]
        )

    def _modules(self, place: Place) -> str:
        """Names the modules at a place, the first and the last of each run of them."""
        where = self.device_map.where
        runs = []
        units = itertools.groupby(
            self.device_map.units, lambda unit: any(where[path] == place for path in unit.leaves)
        )
        for is_here, group in units:
            if is_here:
                first, *rest = (unit.name for unit in group)
                runs.append(f"{first} .. {rest[-1]}" if rest else first)
        return ", ".join(runs) or "all"


class HasPlacementPlan(Mixin):
    """Adds the plan of a `device_map`."""

    def placement_plan(
        self,
        device_map: object,
        max_memory: MaxMemory | None = None,
        *,
        param_dtype: DtypeLike | Mapping[str, DtypeLike] = "float32",
        rates: fs.Rates | None = None,
    ) -> PlacementPlan:
        """Plans where a `device_map` puts the model's params, without a checkpoint; allocates
        nothing.

        Args:
            device_map, max_memory: as `from_pretrained` takes them.
            param_dtype: of the params.
            rates: for the time of a token.

        Raises:
            TypeError, ValueError: as `from_pretrained`.
        """
        if device_map is None:
            raise TypeError('placement_plan needs a device_map, such as "auto"')
        options = DeviceMapOptions(device_map=device_map, max_memory=max_memory)
        leaves = flatten(self.abstract_params(param_dtype))
        sizes = {path: nbytes(leaf) for path, leaf in leaves.items()}
        return PlacementPlan(device_map_of(self, sizes, options), sizes, fs.Rates.of(rates))
