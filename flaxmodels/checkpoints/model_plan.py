"""Planning: how weights are matched with a model's leaves, cast and placed; reads no weights."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from .. import params as fp
from .. import sharding as fs
from ..core.model import Model
from ..params.checkpoint.load_plan import LoadPlan
from ..params.checkpoint.make_plan import check_shardings, make_plan
from ..params.checkpoint.match import check_backbone, check_numbers, check_shapes
from ..params.checkpoint.reconcile import reconcile
from ..params.sizes import parse_size
from ..params.tree.cast import DtypeLike
from ..placement.options import DeviceMapOptions
from .offload import placed_plan
from .quantization.leaves import quantised_source, with_quantized
from .quantization.recipe import Recipe
from .tensor_parallel import M, TensorParallel

_CHEAP = 1 << 16  # size of a dimension up to which the table of mismatches says it better


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanOptions(DeviceMapOptions):
    """How weights are matched with a model's leaves, cast and placed; see
    `PretrainedModel.from_pretrained`.

    Raises:
        TypeError: shardings that are none, two of a mesh, shardings and a device map, or other
            keywords that contradict each other.
        ValueError: a budget that is no number of bytes, a mesh that cannot be used, or as
            `DeviceMapOptions`.
    """

    param_dtype: DtypeLike | Mapping[str, DtypeLike] | None = "auto"
    mesh: Mesh | AbstractMesh | None = None
    shardings: fp.PyTree = None
    tp_plan: Mapping[str, str] | str | None = None
    tp_size: int | None = None
    device_mesh: Mesh | AbstractMesh | None = None
    distributed_config: object = None
    max_host_memory: int | str = 1 << 30
    strict: bool = True
    ignore_mismatched_sizes: bool = False
    dequantize: bool = False
    quantization_config: object = None
    load_in_8bit: bool = False
    load_in_4bit: bool = False

    def __post_init__(self) -> None:
        if self.mesh is not None and self.device_mesh is not None:
            raise TypeError(
                "give mesh or device_mesh, which is Transformers' name for it, not both"
            )
        mesh = self.device_mesh if self.mesh is None else self.mesh
        tensor = self.tensor_parallel
        check_shardings(self.shardings)
        if self.shardings is not None and (mesh is not None or tensor is not None):
            said = "tp_plan, tp_size or distributed_config" if mesh is None else "mesh (and rules)"
            raise TypeError(f"give {said} or shardings, not both")
        if tensor is not None:
            mesh = tensor.mesh(mesh)
        if mesh is not None:
            object.__setattr__(self, "mesh", fs.check_mesh(mesh, abstract=True))
            object.__setattr__(self, "device_mesh", None)
        for name in ("mesh", "shardings"):
            if self.device_map is not None and getattr(self, name) is not None:
                raise TypeError(f"give device_map or {name}, not both")
        super().__post_init__()
        _ = self.host_bytes
        asked = (self.quantization_config, self.load_in_8bit, self.load_in_4bit)
        if any(asked) and not isinstance(self.quantization_config, Recipe):
            object.__setattr__(self, "quantization_config", Recipe.of(*asked))

    @property
    def recipe(self) -> Recipe | None:
        """The weights that are quantised while they are read, and how; None if none are."""
        config = self.quantization_config
        return config if isinstance(config, Recipe) else None

    @property
    def tensor_parallel(self) -> TensorParallel | None:
        """The tensor parallelism that Transformers' keywords ask for; None without them."""
        return TensorParallel.of(self.tp_plan, self.tp_size, self.distributed_config)

    def ruled(self, model: M) -> M:
        """Returns the model with the rules that its params are placed by."""
        tensor, mesh = self.tensor_parallel, self.mesh
        return model if tensor is None or mesh is None else tensor.ruled(model, mesh)

    @property
    def host_bytes(self) -> int:
        """Bytes of host memory that a load may use beyond the finished params."""
        return parse_size(self.max_host_memory, "max_host_memory")

    @property
    def is_local(self) -> bool:
        """Whether all devices that params go to are this process's own."""
        if self.mesh is not None:
            return isinstance(self.mesh, AbstractMesh) or not self.mesh.is_multi_process
        return all(sharding.is_fully_addressable for sharding in jax.tree.leaves(self.shardings))


def plan_load(model: Model, source: fp.Source, options: PlanOptions) -> LoadPlan:
    """Plans what loading `source` into `model` reads and where it goes.

    Raises:
        fp.CheckpointError: a checkpoint that is not this model's.
        ValueError: rules or shardings that do not fit the model.
    """
    source = quantised_source(model, source)
    _check_sizes(model, source)
    template = model.abstract_params()
    shardings = options.shardings
    if options.mesh is None:
        fs.check_rules(model.rules, template)
    else:
        shardings = model.place(template, options.mesh).unpadded
    prefix = model.base_model_prefix
    match = reconcile(template, source, model.naming, prefix=prefix, tied=_ties(model, template))
    if options.strict:
        check_backbone(match, prefix, model.naming)
    if not options.ignore_mismatched_sizes:
        check_shapes(match)
    check_numbers(match, template)
    if (recipe := options.recipe) is not None:
        match = with_quantized(model, match, template, recipe, again=options.dequantize)
    plan = make_plan(
        match,
        template,
        dtype=jnp.float32 if options.param_dtype is None else options.param_dtype,
        shardings=shardings,
        max_host_memory=options.host_bytes,
        keep_packed=recipe is not None or not options.dequantize,
    )
    return plan if options.device_map is None else placed_plan(model, plan, options)


def _check_sizes(model: Model, source: fp.Source) -> None:
    """Refuses sizes that the checkpoint's headers contradict and that cost something before its
    tensors are compared: layers, each of which gets its leaves, and tables of positions."""
    shapes = [tensor.shape for tensor in source.tensors.values()]
    largest = max((size for shape in shapes for size in shape), default=0)
    # No layer is without a tensor of its own, or a row of a stacked one.
    most = max(len(shapes), *(shape[0] for shape in shapes if shape), 0, 0)
    layers = getattr(model.config.text, "num_hidden_layers", 0)
    if layers > most:
        raise fp.CheckpointError(
            f"{source.where}: the config has {layers} layers, and the checkpoint holds "
            f"{len(shapes)} tensors; check that the config belongs to it"
        )
    for name in ("hidden_size", "intermediate_size", "head_dim"):
        size = getattr(model.config.text, name, None) or 0
        if size > max(largest, _CHEAP):
            raise fp.CheckpointError(
                f"{source.where}: the config has {name} {size}, and no tensor of the checkpoint "
                f"is larger than {largest} in any dimension; check that the config belongs to it"
            )


def _ties(model: Model, template: fp.PyTree) -> list[tuple[str, str]]:
    """Returns the ties that the model has, by paths of its template: of a head and the table only
    where its configuration says so. The head of another file is one that this model may not have.
    """
    leaves = fp.flatten(template)
    prefix = f"{model.base_model_prefix}/"
    return [
        (path, server if server in leaves else server.removeprefix(prefix))
        for path, server in model.tied
        if model.config.tie_word_embeddings or not path.endswith("/kernel")
    ]
