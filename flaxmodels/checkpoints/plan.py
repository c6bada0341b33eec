"""Planning: which model a folder describes, and what loading its weights will read."""

import dataclasses
import os
from collections.abc import Collection
from typing import Any, TypeVar

import jax.numpy as jnp
from jax.sharding import Mesh

from .. import params as fp
from .. import sharding as fs
from ..blocks import check_attention
from ..calls import keywords
from ..config.config import CONFIG_NAME, Config
from ..config.generation_config import GenerationConfig
from ..core.fields import check_config, config_names, field_names
from ..core.model import Model
from ..hub import name_of
from ..params.checkpoint.match import check_backbone, check_numbers, check_shapes
from ..params.checkpoint.plan import LoadPlan, make_plan
from ..params.checkpoint.reconcile import reconcile
from .options import LOAD

M = TypeVar("M", bound=Model)
_CHEAP = 1 << 16  # of a dimension, up to which the table of mismatches says it better


def build(
    cls: type[M],
    folder: str,
    config: Config | str | os.PathLike | None = None,
    *,
    dtype: Any = jnp.float32,
    rules: fs.Rules | None = None,
    **kwargs: Any,
) -> M:
    """The model that a folder's `config.json` (or `config`) and `kwargs` describe; no weights."""
    fields = {name: kwargs.pop(name) for name in field_names(cls) if name in kwargs}
    given = isinstance(config, Config)
    if isinstance(config, Config):
        check_config(cls, config)
    else:
        config = cls.config_class.from_pretrained(
            os.path.join(folder, CONFIG_NAME) if config is None else config
        )
        settable = config_names(type(config))
        config = config.replace(**{n: kwargs.pop(n) for n in list(kwargs) if n in settable})
    if kwargs:
        raise unknown_keywords(cls, kwargs, type(config), given)
    if "attn_implementation" in fields:
        check_attention(keywords.attention(fields["attn_implementation"]))
    if cls.can_generate():
        fields.setdefault("generation_config", GenerationConfig.from_pretrained(folder, config))
    if folder:
        fields.setdefault("origin", name_of(folder))
    if rules is not None:
        fields["rules"] = rules
    return cls(config, dtype=dtype, **fields)


def unknown_keywords(
    cls: type[Model], names: Collection[str], config_class: type[Config], given: bool
) -> TypeError:
    """The error for what neither a load, nor a model, nor its configuration takes."""
    call = f"{cls.__name__}.from_pretrained"
    kind = config_class.__name__
    own = {field.name for field in dataclasses.fields(config_class)} - {"extra"}
    if given and (set_there := sorted(own.intersection(names))):
        line = ", ".join(f"{name}=..." for name in set_there)
        return TypeError(
            f"{call} does not take {', '.join(set_there)} beside config=, a {kind}; give "
            f"config=config.replace({line})"
        )
    takes = {
        "of a load": LOAD,
        f"of a {cls.__name__}": field_names(cls),
        f"of a {kind}": () if given else own,
    }
    return keywords.unknown(names, call, {what: group for what, group in takes.items() if group})


def _check_sizes(model: Model, source: fp.Source) -> None:
    """Refuses sizes that the checkpoint's headers contradict and that cost something before its
    tensors are compared: layers, each of which gets its leaves, and tables of positions."""
    shapes = [tensor.shape for tensor in source.tensors.values()]
    largest = max((size for shape in shapes for size in shape), default=0)
    # No layer is without a tensor of its own, or a row of a stacked one.
    most = max(len(shapes), *(shape[0] for shape in shapes if shape), 0, 0)
    layers = getattr(model.config, "num_hidden_layers", 0)
    if layers > most:
        raise fp.CheckpointError(
            f"{source.where}: the config has {layers} layers, and the checkpoint holds "
            f"{len(shapes)} tensors; check that the config belongs to it"
        )
    for name in ("hidden_size", "intermediate_size", "head_dim"):
        size = getattr(model.config, name, None) or 0
        if size > max(largest, _CHEAP):
            raise fp.CheckpointError(
                f"{source.where}: the config has {name} {size}, and no tensor of the checkpoint "
                f"is larger than {largest} in any dimension; check that the config belongs to it"
            )


def _ties(model: Model, template: Any) -> list[tuple[str, str]]:
    """The ties that the model has, by paths of its template: of a head and the table only where
    its configuration says so. The head of another file is one that this model may not have."""
    leaves = fp.flatten(template)
    prefix = f"{model.base_model_prefix}/"
    return [
        (path, server if server in leaves else server.removeprefix(prefix))
        for path, server in model.tied
        if model.config.tie_word_embeddings or not path.endswith("/kernel")
    ]


def plan_load(
    model: Model,
    source: fp.Source,
    *,
    param_dtype: Any = "auto",
    mesh: Mesh | None = None,
    shardings: Any = None,
    max_host_memory: int = 1 << 30,
    strict: bool = True,
    ignore_mismatched_sizes: bool = False,
) -> LoadPlan:
    """What loading `source` into `model` will read and where it will go; reads no weights.

    Args:
        param_dtype: as in `from_pretrained`; None is float32.
    """
    if mesh is not None and shardings is not None:
        raise TypeError("give mesh (and rules) or shardings, not both")
    _check_sizes(model, source)
    template = model.abstract_params()
    if mesh is None:
        fs.check_rules(model.rules, template)
    else:
        shardings = fs.shardings(template, mesh, model.rules)
    prefix = model.base_model_prefix
    match = reconcile(template, source, model.naming, prefix=prefix, tied=_ties(model, template))
    if strict:
        check_backbone(match, prefix, model.naming.optional)
    if not ignore_mismatched_sizes:
        check_shapes(match)
    check_numbers(match, template)
    return make_plan(
        match,
        template,
        dtype=jnp.float32 if param_dtype is None else param_dtype,
        shardings=shardings,
        max_host_memory=max_host_memory,
    )
