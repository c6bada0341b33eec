"""Load plans: what a load will do, as a value to print, to compare and to carry out."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping

import jax
import numpy as np

from ..errors import quoted, some
from ..quantized.qtensor import Form
from ..sizes import format_size
from ..tree.measure import HOST_KINDS, format_table
from ..types import PyTree
from .device.routes import SLABS, Limits, Way, route_of
from .device.steps import ring_bytes, transient_bytes
from .leaf_plan import LeafPlan
from .match import Match
from .packed_leaf import owner_of, put_together

_NOTES = 4  # of a kind


@dataclasses.dataclass(frozen=True, repr=False)
class LoadPlan:
    """Every leaf that a load reads, and what it leaves over; `print` it to see it.

    Attributes:
        leaves: in the order in which they are read.
        match: what was found, missing, unexpected and mismatched.
        max_host_memory: bytes of host memory that the load may use beyond the finished params.
        limits: the sizes by which leaves that devices transform are cut.
        on_disk: leaves that are not read, but stay in files, or are written into one.
        way: who transposes and casts, as `make_plan` was asked.
        packed: {path: form} of the quantised weights that stay so; `leaves` has their arrays.
        replicated: what of their arrays is whole on each device, because blocks do not divide.
    """

    leaves: tuple[LeafPlan, ...]
    match: Match
    max_host_memory: int
    limits: Limits
    on_disk: tuple[LeafPlan, ...] = ()
    way: Way = "auto"
    packed: Mapping[str, Form] = dataclasses.field(default_factory=dict)
    replicated: tuple[str, ...] = ()

    @property
    def dtypes(self) -> dict[str, np.dtype]:
        """The dtype of each leaf of the params, by its path; of a packed one the logical one."""
        own = {x.path: x.dtype for x in (*self.leaves, *self.on_disk) if self.owner(x) is None}
        return own | {path: form.dtype for path, form in self.packed.items()}

    def owner(self, leaf: LeafPlan) -> str | None:
        """Returns the path of the packed weight that one of `leaves` is an array of, if any."""
        return owner_of(leaf.path, self.packed) if self.packed else None

    @property
    def abstract_params(self) -> PyTree:
        """The params that a load gives, without numbers: shapes, dtypes and shardings."""
        leaves = (*self.leaves, *self.on_disk)
        return self.tree(
            {x.path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for x in leaves}
        )

    def tree(self, flat: Mapping[str, object]) -> PyTree:
        """Returns the params of `{path: array}` of `leaves`, packed weights put together."""
        return put_together(flat, self.packed)

    @property
    def bytes_per_device(self) -> dict[jax.Device, int]:
        """Bytes of params that each device of this process will hold, in memory of its own."""
        held: dict[jax.Device, int] = {}
        for leaf in self.leaves:
            if leaf.sharding.memory_kind in HOST_KINDS:
                continue
            for device in leaf.sharding.addressable_devices:
                held[device] = held.get(device, 0) + leaf.shard_bytes
        return held

    @property
    def stored_bytes(self) -> int:
        """Bytes that the wanted tensors take in the checkpoint."""
        return sum(piece.tensor.nbytes for leaf in self.leaves for piece in leaf.pieces)

    def elsewhere(self, leaf: LeafPlan, sharding: jax.sharding.Sharding) -> LeafPlan:
        """Returns a leaf of this plan in another place, by the way that it takes there."""
        leaf = dataclasses.replace(leaf, sharding=sharding, committed=True)
        return dataclasses.replace(leaf, route=route_of(leaf, self.way, self.limits))

    @functools.cached_property
    def ring_bytes(self) -> int:
        """Bytes of host memory that leaves go through which devices transform."""
        return ring_bytes(self.leaves, self.limits)

    @functools.cached_property
    def transient_bytes(self) -> int:
        """Bytes of each device that the load needs beyond the finished params."""
        return transient_bytes(self.leaves, self.limits)

    @property
    def staging_bytes(self) -> int:
        """Bytes of host memory that leaves go through which devices transform: the ring, and where
        devices are the host (CPU) what they need beyond the finished params. Unless `make_plan` was
        asked for that way, at most half of `max_host_memory`."""
        cpus = sum(device.platform == "cpu" for device in self.bytes_per_device)
        return self.ring_bytes + cpus * self.transient_bytes

    @property
    def host_bytes(self) -> int:
        """Bytes of host memory that leaves go through which the host puts together."""
        return max(self.max_host_memory - self.staging_bytes, self.max_host_memory // 2)

    @property
    def buffer_bytes(self) -> int:
        """Bytes of host memory that the load needs at most beyond the finished params."""
        by_host = any(leaf.route.kind == "host" and leaf.nbytes for leaf in self.leaves)
        return self.staging_bytes + (self.host_bytes if by_host or not self.staging_bytes else 0)

    @property
    def predicted_host_peak(self) -> int:
        """Upper bound on this process's host memory at the end of the load: its buffers, and where
        devices are the host (CPU) what is on them."""
        return self.held_on_host + self.buffer_bytes

    @property
    def predicted_device_peak(self) -> int:
        """Upper bound on the memory of the device of this process that holds most: its params, and
        what the load needs beside them. Of leaves that the host puts together, a cast is beyond
        it: they are whole in both dtypes then."""
        return max(self.bytes_per_device.values(), default=0) + self.transient_bytes

    @property
    def held_on_host(self) -> int:
        """Bytes of params that are in this process's host memory: those of CPU devices, and those
        that are kept there beside a device."""
        held = self.bytes_per_device.items()
        beside = sum(x.nbytes for x in self.leaves if x.sharding.memory_kind in HOST_KINDS)
        return beside + sum(size for device, size in held if device.platform == "cpu")

    def _notes(self) -> list[str]:
        match = self.match
        notes = [match.said] if match.said else []
        for path, others in match.twice.items():
            names = some(quoted(piece.tensor.name) for piece in others)
            notes.append(f"{path} has two names: {names} too; compared when it is loaded")
        notes += self.replicated[:_NOTES]
        if (more := len(self.replicated) - _NOTES) > 0:
            notes.append(f"... and {more} more arrays of quantised weights")
        if self.on_disk:
            size = format_size(sum(leaf.nbytes for leaf in self.on_disk))
            notes.append(f"{len(self.on_disk)} leaves, {size}, stay on the disk")
        return notes

    def _dtypes(self) -> Iterator[tuple[str, int, int]]:
        for leaf in self.leaves:
            if (owner := self.owner(leaf)) is None:
                yield f"{leaf.stored} -> {leaf.dtype}", 1, leaf.nbytes
            else:
                is_first = leaf.path == f"{owner}/data"
                yield f"{self.packed[owner].codes}, packed", int(is_first), leaf.nbytes

    def _routes(self) -> list[str]:
        """Says which way leaves take, where it is not all the host's."""
        if all(leaf.route.kind == "host" and not leaf.route.why for leaf in self.leaves):
            return []
        ring, chunk = format_size(self.ring_bytes), format_size(self.transient_bytes // SLABS)
        return [
            *_table("route", ((str(leaf.route), 1, leaf.nbytes) for leaf in self.leaves)),
            f"ring of {ring} in host memory, {SLABS} chunks of {chunk} on each device beside the "
            "params",
        ]

    def __repr__(self) -> str:
        match, held = self.match, self.bytes_per_device.values()
        least_and_most = dict.fromkeys((min(held, default=0), max(held, default=0)))
        lines = [
            f"{len(self.dtypes)} leaves from {len(match.source.files)} files, "
            f"{format_size(self.stored_bytes)} to read, missing {len(match.missing)}, "
            f"unexpected {len(match.unexpected)}, mismatched {len(match.mismatched)}",
            f"{len(held)} devices, {' - '.join(map(format_size, least_and_most))} each; host peak "
            f"below {format_size(self.predicted_host_peak)}",
            *_table("dtype: stored -> loaded", self._dtypes()),
            *self._routes(),
            *self._notes(),
        ]
        return "\n  ".join([f"load plan of {match.source.where}", *lines])


def _table(title: str, rows: Iterable[tuple[str, int, int]]) -> list[str]:
    """Returns the lines of a table of (kind, leaves, bytes), those of one kind added up."""
    found: dict[str, tuple[int, int]] = {}
    for kind, count, size in rows:
        counts, sizes = found.get(kind, (0, 0))
        found[kind] = counts + count, sizes + size
    cells = [(kind, str(count), format_size(size)) for kind, (count, size) in found.items()]
    return format_table([(title, "leaves", "bytes"), *cells], numeric=(1, 2)).splitlines()
