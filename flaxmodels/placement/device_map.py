"""Device maps: which leaf goes where, of a map that is given, or one that is made by memory."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import Sharding, SingleDeviceSharding

from ..core.model import Model
from ..params.errors import some
from ..params.tree.leaf_places import places
from ..params.tree.naming import TORCH
from ..params.tree.paths import flatten, matches, nearest
from .budget import Unit, assign, check_fits, limit_of, limits_for, memory_limits
from .device_names import AUTOMATIC, DISK, HOST, Place, devices_of, one_place, place_of
from .options import DeviceMapOptions
from .outline import outline_of


@dataclasses.dataclass(frozen=True)
class DeviceMap:
    """Where each leaf goes.

    Attributes:
        where: {path: place}.
        main: the device that what is in host memory or on the disk is brought to.
        units: what stays together, in the order in which it is computed with.
    """

    where: Mapping[str, Place]
    main: jax.Device
    units: tuple[Unit, ...]

    def sharding(self, path: str) -> Sharding | None:
        """Returns the sharding of a leaf; None for one on the disk."""
        place = self.where[path]
        if place == DISK:
            return None
        if place == HOST:
            return SingleDeviceSharding(self.main, memory_kind="pinned_host")
        assert not isinstance(place, str)
        return SingleDeviceSharding(place)

    @property
    def is_staged(self) -> bool:
        """Whether the model cannot be run as one program."""
        places = {*self.where.values()}
        return len(places) > 1 or len(devices_of(places)) < len(places)


def device_map_of(model: Model, sizes: Mapping[str, int], options: DeviceMapOptions) -> DeviceMap:
    """Carries out a `device_map`.

    Args:
        sizes: {path: bytes} of all leaves.

    Raises:
        ValueError: a map that does not name a module, names what is not there, or does not fit.
        TypeError: a model that cannot be run in stages.
    """
    limits = memory_limits(options.max_memory)
    given = options.device_map
    if not isinstance(given, Mapping) and given not in AUTOMATIC:
        given = {"": one_place(given)}
    if isinstance(given, Mapping):
        where = _mapped(model, sizes, given)
        devices = devices_of(map(place_of, given.values())) or devices_of(limits or ())
        main = (devices or jax.local_devices())[0]
        placement = DeviceMap(where, main, ())
        if placement.is_staged:
            placement = dataclasses.replace(placement, units=units_of(model, sizes))
        units = placement.units or (Unit("the model", sizes, False),)
        known = {p: limit_of(p, limits) for p in dict.fromkeys([*where.values(), main])}
        check_fits(units, where, {p: n for p, n in known.items() if n is not None}, main)
        return placement
    whole = Unit("the model", sizes, False)
    table = limits_for(given, limits, (whole,))
    main, *others = devices_of(dict(table))
    if whole.nbytes <= dict(table)[main] and (given == "sequential" or not others):
        return DeviceMap(dict.fromkeys(sizes, main), main, (whole,))
    units = units_of(model, sizes)
    by_unit = assign(units, limits_for(given, limits, units))
    where = {path: by_unit[unit.name] for unit in units for path in unit.leaves}
    return DeviceMap(where, main, units)


def _mapped(
    model: Model, sizes: Mapping[str, int], given: Mapping[str, object]
) -> dict[str, Place]:
    """Returns the place of each leaf by the longest prefix of its path, or of its tensor's name."""
    template = flatten(model.abstract_params())
    stored = places(template, model.naming, TORCH)
    prefixes: dict[str, Place] = {}
    for key, value in given.items():
        place = place_of(value)
        if prefixes.setdefault(_slashed(key), place) != place:
            raise ValueError(f"device_map has two places for {_slashed(key)!r}, in two spellings")
    where: dict[str, Place] = {}
    used, holes = set(), []
    for path in sizes:
        names = [path, *(_slashed(place.name) for place in stored[path])]
        fits = [p for p in prefixes if any(_begins(name, p) for name in names)]
        used.update(fits)
        if fits:
            where[path] = prefixes[max(fits, key=len)]
        else:
            holes.append(path.rpartition("/")[0] or path)
    if holes:
        raise ValueError(
            f"device_map has no place for {some(dict.fromkeys(holes), 5)}: name these modules, or "
            'give one for all others as {"": place}'
        )
    _check_used(model, [p for p in prefixes if p not in used], template)
    return where


def _check_used(model: Model, idle: Sequence[str], template: Mapping[str, object]) -> None:
    """Refuses prefixes of nothing; those of tied modules and of buffers, which maps of Transformers
    have, are of nothing here."""
    for prefix in idle:
        tied = any(_begins(path, prefix) for path, _ in model.tied)
        buffer = matches(model.naming.ignored, f".{prefix.replace('/', '.')}.inv_freq")
        if prefix and not tied and not buffer:
            modules = {path[:at] for path in template for at, c in enumerate(path) if c == "/"}
            raise ValueError(
                f"device_map: nothing of {type(model).__name__} is at {prefix!r}"
                f"{nearest(prefix, modules)}"
            )


def _slashed(name: str) -> str:
    return name.strip().replace(".", "/").strip("/")


def _begins(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}/")


def units_of(model: Model, sizes: Mapping[str, int]) -> tuple[Unit, ...]:
    """Returns what stays together of a model, in the order in which it is computed with.

    Raises:
        TypeError: a model without layers that can be run one by one.
    """
    outline = outline_of(model)
    units, seen = [], set()

    def modules(paths: Sequence[str]) -> None:
        groups: dict[str, dict[str, int]] = {}
        for path in paths:
            if path not in seen:
                seen.add(path)
                groups.setdefault(path.rpartition("/")[0] or path, {})[path] = sizes[path]
        units.extend(Unit(name, leaves, False) for name, leaves in groups.items())

    for part, stack in zip(outline.parts, (*outline.stacks, None), strict=True):
        modules(part)
        if stack is not None:
            path, count = stack
            for number in range(count):
                start = f"{path}/{number}/"
                leaves = {name: size for name, size in sizes.items() if name.startswith(start)}
                seen |= leaves.keys()
                units.append(Unit(start[:-1], leaves, True))
    modules([path for path in sizes if path not in seen])  # that this call does not read
    return tuple(units)
