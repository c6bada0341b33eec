"""Transformers' keywords of tensor parallelism: what `tp_plan`, `tp_size`, `device_mesh` and
`distributed_config` say of mesh and rules."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
from jax.sharding import AbstractMesh, Mesh

from .. import params as fp
from .. import sharding as fs
from ..core.model import Model
from ..params.scalars import whole

M = TypeVar("M", bound=Model)
Plan = Mapping[str, str] | str

_NOT_DONE = (
    "enable_sequence_parallel",
    "enable_expert_parallel",
    "fsdp_plan",
    "fsdp_cpu_offload",
    "fsdp_mixed_precision",
    "pp_size",
    "ep_size",
    "ep_plan",
)
_SIZES = ("tp_size", "fsdp_size", "dp_replicate_size")
_KEYS = (*_SIZES, "tp_plan", "ep_implementation", *_NOT_DONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorParallel:
    """The keywords, checked.

    Attributes:
        plan: "auto" for the family's rules, {name: style} before them, or None.
        size: devices that share a product; None for all that `mesh` or the machine has.
        fsdp, data: sizes of the other axes of the mesh that is made; None for what is left.
    """

    plan: Plan | None = None
    size: int | None = None
    fsdp: int | None = None
    data: int | None = None

    @classmethod
    def of(
        cls, tp_plan: object, tp_size: object, distributed_config: object
    ) -> "TensorParallel | None":
        """Reads the keywords; None where nothing is asked for.

        Raises:
            TypeError: keywords that contradict each other, or values of the wrong kind.
            ValueError: a size that is none, or an empty plan.
        """
        given: dict[str, Any] = {"tp_plan": tp_plan, "tp_size": tp_size}
        if distributed_config is not None:
            if twice := [name for name, value in given.items() if value is not None]:
                raise TypeError(f"give distributed_config or {' and '.join(twice)}, not both")
            given = _of_config(distributed_config)
        sizes = [None if (n := given.get(name)) is None else whole(name, n) for name in _SIZES]
        plan = given.get("tp_plan")
        if plan is None and not any(sizes):
            return None
        if plan is not None and plan != "auto" and not isinstance(plan, Mapping):
            raise TypeError(
                f"tp_plan is {plan!r:.80}: expected 'auto', the family's own rules, or a mapping "
                "of names to styles such as {'layers.*.mlp.up_proj': 'colwise'}"
            )
        if isinstance(plan, Mapping) and not plan:
            raise ValueError("tp_plan is empty: nothing would be split; leave it out")
        return cls(plan=plan, size=sizes[0], fsdp=sizes[1], data=sizes[2])

    def mesh(self, mesh: Mesh | AbstractMesh | None) -> Mesh | AbstractMesh:
        """Returns the mesh: the caller's, or one of all devices: `tensor` as the size says, else as
        long as it can be, and `data` for what is left.

        Raises:
            ValueError: a size that is not that of the caller's mesh, or does not divide the
                devices.
        """
        if mesh is not None:
            auto = fs.check_mesh(mesh, abstract=True)
            axis = fs.tensor_axis(auto.axis_names)
            if self.size is not None and auto.shape[axis] != self.size:
                raise ValueError(
                    f"tp_size is {self.size}, and axis {axis!r} of the mesh has size "
                    f"{auto.shape[axis]}; leave tp_size out, or give the mesh alone"
                )
            if self.fsdp is not None or self.data is not None:
                raise TypeError("distributed_config has sizes for a mesh, and mesh is given too")
            return auto
        count = jax.device_count()
        others = (self.fsdp or 1) * (self.data or 1)
        size = self.size or (count // others if self.plan is not None else 1)
        if count % (others * size) or (self.data and others * size != count):
            what = f"fsdp_size {self.fsdp or 1} x dp_replicate_size {self.data or 1} x "
            raise ValueError(
                f"{what if others > 1 else ''}tp_size {size} does not fit the {count} devices; "
                "give sizes whose product divides them, or mesh= for fewer"
            )
        return fs.make_mesh(data=-1, fsdp=self.fsdp or 1, tensor=size)

    def ruled(self, model: M, mesh: Mesh | AbstractMesh) -> M:
        """Returns the model with the rules of the plan, for the axes of the mesh.

        Raises:
            ValueError: a model without logical axes, or a plan that is not of this model.
        """
        if not model.is_parallelizable:
            raise ValueError(
                f"{type(model).__name__} has no rules for tensor parallelism "
                "(is_parallelizable is False): its params have no logical axes"
            )
        rules, axis = model.rules, fs.tensor_axis(mesh.axis_names)
        if isinstance(self.plan, Mapping):
            rules = fs.tensor_rules(self.plan, fp.flatten(model.abstract_params()), rules)
        if axis != "tensor" and "tensor" in fs.mesh_axes(rules):
            rules = fs.renamed(rules, {"tensor": axis})
        return model if rules == model.rules else model.clone(rules=rules)


def _of_config(config: object) -> dict[str, Any]:
    """Returns the settings of a `DistributedConfig`, or of a dictionary of them."""
    if isinstance(config, Mapping):
        if odd := sorted(set(config) - set(_KEYS)):
            raise TypeError(
                f"distributed_config has no {', '.join(map(repr, odd))}; it takes "
                f"{', '.join(_KEYS[:4])}"
            )
        given = dict(config)
    else:
        given = {name: getattr(config, name) for name in _KEYS if hasattr(config, name)}
        if not given:
            raise TypeError(
                f"distributed_config is a {type(config).__name__}: expected a mapping of "
                f"{', '.join(_KEYS[:4])}, or an object with these"
            )
    for name in _NOT_DONE:
        if given.get(name) not in (None, False, 1) or given.get(name) is True:
            raise ValueError(
                f"distributed_config: {name}={given[name]!r:.60} is not done here; tensor and "
                "fsdp axes are, with mesh=fs.make_mesh(...), and others with rules="
            )
    return given
