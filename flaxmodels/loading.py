"""Loading: resolve -> open -> reconcile -> plan -> stream; each step's result can be printed."""

import dataclasses
import os
import warnings
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from . import params as fp
from . import sharding as fs
from .blocks import check_attention
from .config import Config
from .generation_config import GenerationConfig
from .hub import resolve
from .params.names import TF

if TYPE_CHECKING:
    from .base import PretrainedModel


@dataclasses.dataclass(frozen=True)
class LoadingInfo:
    """What a load found: paths of leaves, names of tensors.

    Attributes:
        missing_keys: leaves that the checkpoint does not have; they were initialised.
        unexpected_keys: tensors of the checkpoint that the model has no place for.
        mismatched_keys: (path, shape in the checkpoint, shape in the model) of leaves that were
            initialised because `ignore_mismatched_sizes` was set.
        error_msgs: empty: an error is raised, not collected.
        plan: the `fp.LoadPlan` that was carried out.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]
    mismatched_keys: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    error_msgs: list[str]
    plan: fp.LoadPlan


def load(
    cls: "type[PretrainedModel]",
    name_or_path: str | os.PathLike,
    *,
    config: Config | str | os.PathLike | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = "auto",
    mesh: Mesh | None = None,
    rules: fs.Rules | None = None,
    shardings: Any = None,
    max_host_memory: int = 1 << 30,
    strict: bool = True,
    ignore_mismatched_sizes: bool = False,
    key: jax.Array | None = None,
    output_loading_info: bool = False,
    use_safetensors: bool | None = None,
    subfolder: str = "",
    revision: str = "main",
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    progress: bool = True,
    **kwargs: Any,
) -> Any:
    """Opens a checkpoint -> `(model, params)`, the params as stored, each leaf where it belongs.

    Args:
        name_or_path: a folder with `config.json` and weights (safetensors or flax msgpack, single
            or sharded, under PyTorch or old Flax names), or the name of a repository on the Hub.
        config: used instead of the folder's own: a configuration, or where to read one.
        dtype: what the model computes in.
        param_dtype: what the params are stored in: "auto" as in the checkpoint, a dtype or its
            name, or an ordered `{regular expression on the path: dtype}`.
        mesh: place every leaf on it by `rules`; this process reads only what its devices hold.
        rules: logical axes -> mesh axes; `fs.DEFAULT_RULES` if None.
        shardings: instead of `mesh`: a tree of `jax.sharding.Sharding`, or one for all leaves.
        max_host_memory: bytes of host memory to use beyond the finished params.
        strict: refuse a backbone with leaves missing or tensors left over.
        ignore_mismatched_sizes: initialise leaves whose tensor has another shape.
        key: for leaves that are initialised; `jax.random.key(0)` if None.
        output_loading_info: return `(model, params, LoadingInfo)`.
        use_safetensors: True takes only safetensors, False never.
        subfolder, revision, token, cache_dir, local_files_only: where in a repository, as in
            `huggingface_hub`.
        progress: show a bar if it takes longer than a second.
        **kwargs: fields of the model (`scan_layers`, `remat`, `attn_implementation`), and, unless
            `config` is given, fields of the configuration, which they override.

    Raises:
        fp.CheckpointError: a checkpoint that cannot be read, or is not this model's.
        ConfigError: a configuration that cannot be honoured.
        TypeError: a keyword that is neither a field of the model nor of its configuration.
    """
    folder = resolve(
        name_or_path,
        subfolder=subfolder,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        use_safetensors=use_safetensors,
    )
    model = build(cls, folder, config, dtype=dtype, rules=rules, **kwargs)
    plan = plan_load(
        model,
        folder,
        param_dtype=param_dtype,
        mesh=mesh,
        shardings=shardings,
        max_host_memory=max_host_memory,
        strict=strict,
        ignore_mismatched_sizes=ignore_mismatched_sizes,
        use_safetensors=use_safetensors,
    )
    params = fp.stream(plan, progress=progress)
    match = plan.match
    fresh = (*match.missing, *(bad.path for bad in match.mismatched))
    if fresh:
        key = jax.random.key(0) if key is None else key
        params = fp.merge(params, _initialised(model, key, fresh, param_dtype, mesh, shardings))
    _warn(cls, match)
    if not output_loading_info:
        return model, params
    mismatched = [(bad.path, bad.found, bad.expected) for bad in match.mismatched]
    info = LoadingInfo(list(match.missing), list(match.unexpected), mismatched, [], plan)
    return model, params, info


def load_tf(model: "PretrainedModel", path: str, **placement: Any) -> Any:
    """The params of a TensorFlow checkpoint; see `PretrainedModel.load_tf_weights`."""
    plan = plan_load(model, path, **placement)
    source, missing = plan.match.source, plan.match.missing
    if source.layout != TF:
        raise fp.CheckpointError(f"{source.where}: not a TensorFlow checkpoint: {source.layout}")
    if missing:
        raise fp.CheckpointError(
            f"{source.where}: not in the checkpoint: {fp.some(missing)}; from_pretrained "
            "initialises the leaves of a new head"
        )
    return fp.stream(plan, progress=False)


def build(
    cls: "type[PretrainedModel]",
    folder: str,
    config: Config | str | os.PathLike | None = None,
    *,
    dtype: Any = jnp.float32,
    rules: fs.Rules | None = None,
    **kwargs: Any,
) -> "PretrainedModel":
    """The model that a folder's `config.json` (or `config`) and `kwargs` describe; no weights."""
    own = {name for name in cls.__dataclass_fields__ if name not in ("config", "parent", "name")}
    fields = {name: kwargs.pop(name) for name in list(kwargs) if name in own}
    if isinstance(config, Config):
        if not isinstance(config, cls.config_class):
            raise TypeError(
                f"{cls.__name__} takes a {cls.config_class.__name__}, got {type(config).__name__}"
            )
    else:
        config = cls.config_class.from_pretrained(folder if config is None else config)
        known = {name: kwargs.pop(name) for name in list(kwargs) if config.knows(name)}
        config = config.replace(**known)
    if kwargs:
        raise TypeError(
            f"{cls.__name__}.from_pretrained got {sorted(kwargs)}, which are fields neither of the "
            f"model ({', '.join(sorted(own))}) nor of a {cls.config_class.__name__} to be read"
        )
    check_attention(fields.get("attn_implementation", "sdpa"))
    if cls.can_generate():
        fields.setdefault("generation_config", GenerationConfig.from_pretrained(folder, config))
    if rules is not None:
        fields["rules"] = rules
    return cls(config, dtype=dtype, **fields)


def plan_load(
    model: "PretrainedModel",
    folder: str,
    *,
    param_dtype: Any = "auto",
    mesh: Mesh | None = None,
    shardings: Any = None,
    max_host_memory: int = 1 << 30,
    strict: bool = True,
    ignore_mismatched_sizes: bool = False,
    use_safetensors: bool | None = None,
) -> fp.LoadPlan:
    """What loading `folder` into `model` will read and where it will go; reads headers only."""
    if mesh is not None and shardings is not None:
        raise TypeError("give mesh (and rules) or shardings, not both")
    template = model.abstract_params()
    if mesh is not None:
        shardings = fs.shardings(template, mesh, model.rules)
    source = fp.open_checkpoint(folder, use_safetensors=use_safetensors)
    prefix = model.base_model_prefix
    match = fp.reconcile(template, source, model.naming, prefix=prefix, tied=model.tied)
    if strict:
        fp.check(match, prefix, model.naming.optional)
    if not ignore_mismatched_sizes:
        fp.check_shapes(match)
    return fp.make_plan(
        match, template, dtype=param_dtype, shardings=shardings, max_host_memory=max_host_memory
    )


def _initialised(
    model: "PretrainedModel", key: jax.Array, paths: tuple[str, ...], param_dtype, mesh, shardings
) -> dict[str, Any]:
    """The leaves at `paths` of `model.init_params(key)`; the compiler drops the others."""
    template = fp.flatten(model.abstract_params())
    wanted = fp.unflatten({path: template[path] for path in paths})
    if mesh is not None:
        shardings = fs.shardings(wanted, mesh, model.rules)
    elif shardings is not None and not isinstance(shardings, jax.sharding.Sharding):
        given = fp.flatten(shardings)
        shardings = fp.unflatten({path: given[path] for path in paths})

    def init(key):
        leaves = fp.flatten(model.random_params(key))
        chosen = fp.unflatten({path: leaves[path] for path in paths})
        return chosen if param_dtype == "auto" else fp.cast(chosen, param_dtype)

    return jax.jit(init, out_shardings=shardings)(key)


def _warn(cls: "type[PretrainedModel]", match: fp.Match) -> None:
    where, name = match.source.where, cls.__name__
    if fresh := [*match.missing, *(bad.path for bad in match.mismatched)]:
        warnings.warn(
            f"Weights from {name} not initialized from pretrained model {where}: "
            f"{fp.some(fresh)}. Train it on a downstream task before using it.",
            stacklevel=4,
        )
    if match.unexpected:
        warnings.warn(
            f"Weights from {where} not used in {name}: {fp.some(match.unexpected)}", stacklevel=4
        )
