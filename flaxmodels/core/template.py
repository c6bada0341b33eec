"""Templates: the abstract params of a model, and params drawn for them."""

import functools
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
from flax.core import meta

from .. import params as fp
from .. import sharding as fs
from ..config.config import Config
from ..params.host.threads import run_untraced
from ..params.tree.layers import LAYERS, is_stacked, layer_paths
from ..params.types import PyTree

_KEPT = 512
"""Templates that are kept; a trace takes 0.1 s."""

_PLAIN: dict[str, Any] = {
    "dtype": jnp.float32,
    "remat": None,
    "attn_implementation": "sdpa",
    "rules": fs.DEFAULT_RULES,
    "generation_config": None,
    "embed_tap": False,
    "uneven": "refuse",
    "defer_logits": False,
}
"""Fields that say how and where params are used, not which there are: models that differ in them
alone are traced once."""


class Described(Protocol):
    """The part of a model that a template is made of."""

    config: Config
    scan_layers: bool

    @property
    def naming(self) -> fp.Naming: ...
    @property
    def supports_abstract_init(self) -> bool: ...
    def clone(self, **changes: object) -> Self: ...
    def dummy_inputs(self) -> dict[str, jax.Array]: ...


def plain(model: Any) -> Any:
    """Returns the model that stands for all with the same params, drawn alike."""
    return model.clone(**_PLAIN)


@functools.lru_cache(maxsize=_KEPT)
def template_of(model: Described) -> fp.Params:
    """Makes the tree of `fs.AbstractParam` of a model's params.

    One layer is traced instead of all: tracing a deep loop would take longer than reading its
    weights, and the stacked tree differs by the index only, unless heads are pruned.
    """
    stacks = () if model.config.pruned_heads else model.naming.stacks
    template = _traced(plain(model).clone(scan_layers=True) if stacks else plain(model))
    if model.scan_layers or not stacks:
        return template
    leaves = {}
    for path, leaf in fp.flatten(template).items():
        if not is_stacked(leaf):
            leaves[path] = leaf
            continue
        layer = leaf.update(shape=leaf.shape[1:], axes=leaf.axes[1:])
        leaves |= dict.fromkeys(layer_paths(path, leaf, {LAYERS: stacks}).values(), layer)
    return fp.unflatten(leaves)


@functools.lru_cache(maxsize=_KEPT)
def _traced(model: Described) -> fp.Params:
    """Traces the params of a model, once for all that it may be run as."""
    # The cache serves other callers too: nothing of this one's trace or mesh may get into it.
    return run_untraced(lambda: _declared(model))


def drawn(model: Any, template: fp.Params, key: jax.Array) -> fp.Params:
    """Draws params for the template of `model`, or for a part of it; to be traced.

    Leaves of our blocks say how they are drawn, each from a key of its path. Others, of plain linen
    layers, are what `model.init(key)` makes of them.
    """
    leaves = fp.flatten(template)
    known = {path: leaf for path, leaf in leaves.items() if getattr(leaf, "draw", None)}
    values = (
        fp.flatten(fp.initialize(fp.unflatten(known), key, naming=model.naming)) if known else {}
    )
    if len(known) < len(leaves):
        own = fp.flatten(meta.unbox(_init(model, key)))
        values |= {p: own[p].astype(leaf.dtype) for p, leaf in leaves.items() if p not in known}
    return fp.unflatten({path: values[path] for path in leaves})


def _declared(model: Described) -> fp.Params:
    key = jax.random.key(0)
    init = functools.partial(_init, model)
    if model.supports_abstract_init:
        return fs.declared_axes(init, key)
    with jax.ensure_compile_time_eval():
        params = init(key)
    return fs.declared_axes(lambda: params)


def _init(model: Any, key: jax.Array) -> PyTree:
    return model.init(key, **model.dummy_inputs())["params"]
