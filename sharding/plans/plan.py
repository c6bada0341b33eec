"""Plans: what a model on a mesh takes, before anything is made: bytes of devices and hosts, the
collectives of a forward pass and of a training step, and times by stated rates."""

import dataclasses
import math
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh

from ..mesh import sizes_of
from ..partition import report
from ..presets import names_of
from ..reports import LeafReport, Report
from ..rules import as_rules, first_wins
from .rates import Rates
from .traffic import Traffic, Work


@dataclasses.dataclass(frozen=True, repr=False)
class Plan:
    """Says what a model on a mesh takes; `print` it to see tables.

    Attributes:
        placement: where each leaf is.
        forward: the collectives of a forward pass.
        train: those of a training step without rematerialisation: of both passes and of the sum of
            gradients.
        bytes_per_host: different bytes that the devices of a host hold, which it reads.
        load_seconds: to read these and bring them to the devices, at the slower rate of both.
        decode_seconds: the least for a token of each sequence: weights read once, and collectives.
    """

    placement: Report
    forward: tuple[Traffic, ...]
    train: tuple[Traffic, ...]
    bytes_per_host: int
    load_seconds: float
    decode_seconds: float

    @property
    def bytes_per_device(self) -> int:
        """Bytes of params that each device holds."""
        return self.placement.bytes_per_device

    def __repr__(self) -> str:
        placed, mesh = self.placement, self.placement.mesh
        count = sum(math.prod(row.shape) for row in placed.rows)
        whole = sum(row.bytes_per_device for row in placed.rows if row.shards == 1)
        largest = sorted(placed.rows, key=lambda row: -row.bytes_per_device)[:3]
        lines = [
            f"{count:,} parameters on {mesh.size} devices ({sizes_of(mesh)})",
            f"  params: {_size(self.bytes_per_device)} on a device, {_size(whole)} of them whole "
            f"on each; {_size(self.bytes_per_host)} read by a host",
            f"  load: {self.load_seconds:.1f} s; a token: {self.decode_seconds * 1e3:.2f} ms",
            "  largest: "
            + ", ".join(f"{row.path} {_size(row.bytes_per_device)}" for row in largest),
        ]
        for name, found in (("forward pass", self.forward), ("training step", self.train)):
            lines.append(f"  {name}: {'' if found else 'no collectives'}")
            lines += [
                f"    {each.count} {each.kind} over {'+'.join(each.axes)}: {_size(each.nbytes)}"
                for each in found
            ]
        return "\n".join(lines)


@overload
def plan(
    model: object, mesh: Mesh | AbstractMesh, rules: object = None, **options: Any
) -> Plan: ...
@overload
def plan(
    model: object, *, device_map: object, max_memory: object = None, **options: Any
) -> Any: ...
def plan(
    model: Any,
    mesh: Mesh | AbstractMesh | None = None,
    rules: object = None,
    *,
    device_map: object = None,
    max_memory: object = None,
    **options: Any,
) -> Any:
    """Plans a model on a mesh, or by a `device_map`; makes nothing, and compiles nothing.

    Args:
        model: a model; on a mesh also a tree of `AbstractParam` in the dtype to be kept
            (`model.abstract_params(jnp.bfloat16)`).
        mesh: an abstract one will do, of any size.
        rules: None for the model's own.
        device_map, max_memory: in the place of a mesh; as `from_pretrained` takes them.
        **options: of `plan_mesh`, or of `model.placement_plan`.

    Returns:
        a `Plan`, or what `model.placement_plan` returns; `print` it.

    Raises:
        TypeError: both a mesh and a device_map, or neither; others as `shardings`.
        ValueError: as `shardings`, or as `from_pretrained` of a map.
    """
    if device_map is None and max_memory is None:
        if mesh is None:
            raise TypeError("plan needs a mesh or a device_map")
        return plan_mesh(model, mesh, rules, **options)
    if mesh is not None or rules is not None:
        raise TypeError("give mesh and rules, or device_map and max_memory, not both")
    if isinstance(model, type) or not hasattr(model, "placement_plan"):
        raise TypeError(f"a device_map is of a model's layers; model is {model!r:.80}")
    return model.placement_plan(device_map, max_memory, **options)


def plan_mesh(
    model: object,
    mesh: Mesh | AbstractMesh,
    rules: object = None,
    *,
    batch: int = 1,
    length: int = 1,
    dtype: jax.typing.DTypeLike = "bfloat16",
    experts_per_token: int = 1,
    devices_per_host: int = 8,
    rates: Rates | None = None,
    uneven: object = None,
) -> Plan:
    """Plans a model on a mesh, see `plan`.

    Collectives follow from the rules, by what GSPMD does with them: weights that are split over the
    axes of the batch are gathered, products over a dimension that is split are summed, keys and
    values are gathered where the length is split, and tokens go to their experts and back. A loss
    over split logits adds its own. XLA may combine several, and on a CPU sums where it could sum
    and scatter.

    Args:
        model, mesh, rules: as `plan` takes them.
        batch: sequences, over all devices.
        length: tokens of each.
        dtype: of activations.
        experts_per_token: to which each token goes, in a model with experts.
        devices_per_host: of devices that follow each other in the mesh.

    Raises:
        TypeError, ValueError: as `shardings`; numbers that are no ints above 0, or no dtype.
    """
    rates = Rates.of(rates)
    _check_counts(
        batch=batch,
        length=length,
        experts_per_token=experts_per_token,
        devices_per_host=devices_per_host,
    )
    placed = report(model, mesh, rules, uneven=uneven)
    rules = as_rules(getattr(model, "rules", None) if rules is None else rules)
    shape = batch, length, _itemsize(dtype), experts_per_token
    work = Work(placed, first_wins(rules), *shape)
    decode = dataclasses.replace(work, length=1)
    sent = sum(each.bytes_sent(mesh) for each in decode.traffic(backward=False))
    on_host = sum(
        row.bytes_per_device * _parts_on_host(row, devices_per_host) for row in placed.rows
    )
    return Plan(
        placed,
        work.traffic(backward=False),
        work.traffic(backward=True),
        on_host,
        max(on_host / rates.disk, placed.bytes_per_device / rates.bus),
        sum(map(decode.bytes_read, placed.rows)) / rates.memory + sent / rates.network,
    )


def _check_counts(**counts: object) -> None:
    for name, count in counts.items():
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise ValueError(f"plan: {name} is {count!r:.80}; expected an int above 0")


def _itemsize(dtype: jax.typing.DTypeLike) -> int:
    try:
        if dtype is None:  # NumPy's float64
            raise TypeError
        return jnp.dtype(dtype).itemsize
    except TypeError:
        raise ValueError(f"plan: dtype is {dtype!r:.80}, which is none") from None


def _parts_on_host(row: LeafReport, devices: int) -> int:
    """Returns how many different parts of a leaf devices that follow each other hold."""
    used, parts = {name for entry in row.spec for name in names_of(entry)}, 1
    for name, size in reversed(row.sharding.mesh.shape.items()):
        parts *= min(size, devices) if name in used else 1
        devices = max(1, devices // size)
    return parts


def _size(nbytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.3g} TB"
