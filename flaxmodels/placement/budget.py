"""Budgets: how many bytes each place may hold, and which place each unit of params gets."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax

from ..params.checkpoint.host_memory import least_limit
from ..params.errors import quoted
from ..params.sizes import format_size, parse_size
from .device_names import DISK, HOST, Place, devices_of, one_place, text_of
from .fetching import AHEAD

_SHARE = 0.9  # of what is free, that params may take if nobody says otherwise
_UNKNOWN = 1 << 62
_SLACK = 1.25  # largest units by which a balanced share is more than its part


@dataclasses.dataclass(frozen=True)
class Unit:
    """Params that stay together: those of a layer, or of a module outside of the layers.

    Attributes:
        name: path of the layer or module.
        leaves: {path: bytes}.
        in_layer: whether it is a layer.
    """

    name: str
    leaves: Mapping[str, int]
    in_layer: bool

    @property
    def nbytes(self) -> int:
        return sum(self.leaves.values())

    @property
    def largest(self) -> str:
        """The path of its largest leaf, with its size."""
        path = max(self.leaves, key=lambda path: self.leaves[path])
        return f"{path} ({format_size(self.leaves[path])})"


def memory_limits(given: object) -> dict[Place, int] | None:
    """Parses `max_memory`.

    Raises:
        TypeError: no map.
        ValueError: a size that is none, or no such device.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise TypeError(
            f"max_memory is {given!r:.80}; expected a map from devices to bytes, such as "
            '{0: "10GiB", "cpu": "30GiB"}'
        )
    limits: dict[Place, int] = {}
    for key, size in given.items():
        name = f"max_memory[{key!r:.80}]"
        if key == DISK:
            raise ValueError(f"{name}: the disk takes what is left; leave it out")
        place = HOST if isinstance(key, str) and key == HOST else one_place(key, name)
        if place in limits:
            raise ValueError(f"{name}: {text_of(place)} is named twice")
        is_none = isinstance(size, int) and not isinstance(size, bool) and size == 0
        limits[place] = 0 if is_none else parse_size(size, name)
    return limits


def limit_of(place: Place, given: Mapping[Place, int] | None) -> int | None:
    """Returns how many bytes a place may hold: what `max_memory` says, else what is known of it;
    None if nothing is."""
    if place == DISK:
        return None
    if given is not None and place in given:
        return given[place]
    if not isinstance(place, str) and place.platform != "cpu":
        stats = place.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else int(_SHARE * (limit - stats.get("bytes_in_use", 0)))
    limit = least_limit()
    if limit is None:
        return None
    sharing = 1 if isinstance(place, str) else len(jax.local_devices(backend="cpu"))
    return int(_SHARE * limit / sharing)


def limits_for(
    how: str, given: Mapping[Place, int] | None, units: Sequence[Unit]
) -> list[tuple[Place, int]]:
    """Returns [(place, bytes)] in the order in which a map that is made fills them: devices, host
    memory, the disk.

    Args:
        how: "auto", "balanced", "balanced_low_0" or "sequential".
        given: `max_memory`; devices that it does not name get nothing.
    """
    local = jax.local_devices()
    known = dict.fromkeys([*local, *devices_of(given or ())])
    devices = [device for device in known if given is None or device in given]
    if not devices:
        devices = local[:1]
        given = {**(given or {}), devices[0]: 0}
    limits: dict[Place, int] = {}
    for place in (*devices, HOST):
        limit = limit_of(place, given)
        limits[place] = _UNKNOWN if limit is None else limit
    if how != "sequential" and len(devices) > 1:
        limits |= _balanced(limits, devices, units, spare_first=how == "balanced_low_0")
    return [*limits.items(), (DISK, _UNKNOWN)]


def _balanced(
    limits: Mapping[Place, int],
    devices: Sequence[jax.Device],
    units: Sequence[Unit],
    *,
    spare_first: bool,
) -> dict[Place, int]:
    """Returns lower limits of the devices but the last, so that each gets its share; the first one
    nothing if it is to be spared and the others have room."""
    total = sum(unit.nbytes for unit in units)
    if spare_first:
        others = sum(limits[device] for device in devices[1:])
        first, *devices = devices
        room = {first: min(limits[first], max(0, total - others))}
    else:
        room = {}
    share = total // len(devices) + int(_SLACK * max(unit.nbytes for unit in units))
    return room | {device: min(limits[device], share) for device in devices[:-1]}


def brought_of(units: Sequence[Unit], where: Mapping[str, Place]) -> list[Unit]:
    """Returns what of each unit is on no device, and brought to one to be computed with."""
    away = (
        dataclasses.replace(
            unit,
            leaves={path: n for path, n in unit.leaves.items() if isinstance(where[path], str)},
        )
        for unit in units
    )
    return [unit for unit in away if unit.leaves]


def ring_bytes(units: Sequence[Unit]) -> int:
    """Returns the room on a device that units which are brought to it take: the layers that are
    there at once, or what is around them."""
    layers = [unit.nbytes for unit in units if unit.in_layer]
    return max((AHEAD + 1) * max(layers, default=0), sum(u.nbytes for u in units if not u.in_layer))


def assign(units: Sequence[Unit], limits: Sequence[tuple[Place, int]]) -> dict[str, Place]:
    """Assigns units, in their order, to places in theirs -> {name of the unit: place}. A place is
    left for good with the first unit that it has no room for. On the first device room is kept for
    what is brought there.

    Raises:
        ValueError: no such room.
    """
    main, ring = devices_of(dict(limits))[0], 0
    while True:
        found = _filled(units, limits, main, ring)
        away = [unit for unit in units if isinstance(found[unit.name], str)]
        if (needed := ring_bytes(away)) <= ring:
            return found
        ring = needed
        room = dict(limits)[main]
        if ring > room:
            largest = max(away, key=lambda unit: unit.nbytes)
            raise ValueError(
                f"the plan does not fit: {text_of(main)} may hold {format_size(room)}, and "
                f"what is brought there takes {format_size(ring)} at a time, "
                f"{format_size(ring - room)} more; the largest is {largest.name} of "
                f"{format_size(largest.nbytes)}, its largest leaf {largest.largest}"
            )


def _filled(
    units: Sequence[Unit], limits: Sequence[tuple[Place, int]], main: Place, ring: int
) -> dict[str, Place]:
    found, at, used = {}, 0, 0
    for unit in units:
        while True:
            place, limit = limits[at]
            if used + unit.nbytes <= limit - (ring if place == main else 0):
                break
            at, used = at + 1, 0
        found[unit.name] = place
        used += unit.nbytes
    return found


def check_fits(
    units: Sequence[Unit],
    where: Mapping[str, Place],
    limits: Mapping[Place, int],
    main: Place,
) -> None:
    """Refuses a map by which a place holds more than it may.

    Args:
        where: {path of a leaf: place}.

    Raises:
        ValueError: by how much, and the largest leaf there.
    """
    held: dict[Place, dict[str, int]] = {}
    for unit in units:
        for path, size in unit.leaves.items():
            held.setdefault(where[path], {})[path] = size
    brought = brought_of(units, where)
    for place, limit in limits.items():
        leaves, ring = held.get(place, {}), ring_bytes(brought) if place == main else 0
        size = sum(leaves.values()) + ring
        if size <= limit:
            continue
        largest = max(leaves or {quoted("none"): 0}, key=lambda path: leaves.get(path, 0))
        kept = f", {format_size(ring)} of it for what is brought there," if ring else ""
        raise ValueError(
            f"the plan does not fit: by the device_map {text_of(place)} needs {format_size(size)}"
            f"{kept} and may hold {format_size(limit)}, {format_size(size - limit)} less; its "
            f"largest leaf is {largest} ({format_size(leaves.get(largest, 0))})"
        )
