"""Planning: which model a folder describes, and what loading its weights will read."""

import os
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax.sharding import Mesh

from . import params as fp
from . import sharding as fs
from .blocks import check_attention
from .config import CONFIG_NAME, Config
from .generation_config import GenerationConfig

if TYPE_CHECKING:
    from .base import PretrainedModel


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
        given = os.path.join(folder, CONFIG_NAME) if config is None else config
        config = cls.config_class.from_pretrained(given)
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
    source: fp.Source,
    *,
    param_dtype: Any = "auto",
    mesh: Mesh | None = None,
    shardings: Any = None,
    max_host_memory: int = 1 << 30,
    strict: bool = True,
    ignore_mismatched_sizes: bool = False,
) -> fp.LoadPlan:
    """What loading `source` into `model` will read and where it will go; reads no weights."""
    if mesh is not None and shardings is not None:
        raise TypeError("give mesh (and rules) or shardings, not both")
    template = model.abstract_params()
    if mesh is not None:
        shardings = fs.shardings(template, mesh, model.rules)
    prefix = model.base_model_prefix
    match = fp.reconcile(template, source, model.naming, prefix=prefix, tied=model.tied)
    if strict:
        fp.check(match, prefix, model.naming.optional)
    if not ignore_mismatched_sizes:
        fp.check_shapes(match)
    return fp.make_plan(
        match, template, dtype=param_dtype, shardings=shardings, max_host_memory=max_host_memory
    )
