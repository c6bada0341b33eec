"""Pruning: attention heads are cut out of a model and its params."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import blocks
from .. import params as fp
from ..config.config import Config
from ..params.tree import resize
from ..params.tree.layers import layers_of, list_paths
from ..params.tree.paths import nearest
from ..params.types import Leaf, Params
from .token_leaves import Leaves, M, check_shape, check_tree, editable

_KEPT = {"heads": blocks.kept_heads, "kv_heads": blocks.kept_kv_heads}
"""Logical axes along which heads lie -> the function that numbers those of a layer."""


def prune_heads(
    model: M, params: Params, heads_to_prune: Mapping[int, Iterable[int]]
) -> tuple[M, Params]:
    """Returns `(model, params)` without some attention heads: columns of the projections to q, k
    and v are cut, and rows of the projection that follows. Heads over an encoder stay.

    `config.pruned_heads` of the new model names them. Heads keep the numbers that they had before
    any was pruned; pruning one again changes nothing. Heads that share a key-value head must go
    together, and it goes with them. A scanned model stays scanned if all its layers have the same
    number of heads then; otherwise a looped one is returned, its params unstacked.

    Dtypes and shardings stay; leaves may be NumPy arrays or abstract, and `params` traced. Under
    `jit` XLA places what was cut across shards: give `out_shardings` there. The axes "heads" and
    "kv_heads" of `model.abstract_params()` tell where heads are, so a family needs only to make its
    projections as wide as `blocks.num_heads` says.

    Args:
        heads_to_prune: {1: [0, 2], 2: [2, 3]}: heads 0 and 2 of layer 1, and 2 and 3 of layer 2.

    Raises:
        TypeError: a plan of another form.
        ConfigError: no such layer or head, a layer left with none, or a part of those that share
            a key-value head.
        ValueError: params that are not the model's, or a sharded axis whose new size does not
            divide; with the path.

    Source: Michel et al. 2019, arXiv:1905.10650; `prune_heads` of Transformers 4.53.
    """
    check_tree(params)
    before = model.config
    after = before.replace(pruned_heads=_union(before.pruned_heads, heads_to_prune))
    template = fp.flatten(model.abstract_params())
    _check(fp.flatten(params), template)
    stacks = model.naming.stacks
    scan = model.scan_layers and blocks.heads_are_even(after)
    if model.scan_layers and not scan:
        for path in list_paths(template, stacks):
            params = fp.unstack_layers(params, path)
        template = fp.flatten(model.clone(scan_layers=False).abstract_params())
    pruned = model.clone(config=after, scan_layers=scan)
    leaves, wanted = fp.flatten(params), fp.flatten(pruned.abstract_params())
    for path, leaf in leaves.items():
        axes = template[path].axes
        axis = next((i for i, name in enumerate(axes) if name in _KEPT), None)
        if axis is not None and leaf.shape[axis] != wanted[path].shape[axis]:
            layers = layers_of(path, template[path], stacks)
            if not layers:
                raise ValueError(
                    f"{path} has an axis of heads, and is in no list of layers {stacks}"
                )
            kept = [_kept(before, after, i, axes[axis], leaf.shape[axis]) for i in layers]
            leaves[path] = _cut(path, editable(path, leaf), np.stack(kept), axis)
    return pruned, fp.unflatten(leaves)


def _union(
    pruned: Mapping[str, tuple[int, ...]], more: Mapping[int, Iterable[int]]
) -> dict[str, tuple[int, ...]]:
    if not isinstance(more, Mapping):
        raise TypeError(
            f"heads_to_prune is {more!r:.80}; expected {{layer: its heads}}, such as {{1: [0, 2]}}"
        )
    union = dict(pruned)
    for layer, heads in more.items():
        try:
            listed = None if isinstance(heads, Mapping) else np.asarray([*heads]).tolist()
        except (TypeError, ValueError):  # a number, a trace, or lists of different lengths
            listed = None
        if listed is None:
            raise TypeError(
                f"heads_to_prune[{layer!r}] is {heads!r:.80}; expected the heads' numbers"
            )
        union[str(layer)] = (*union.get(str(layer), ()), *listed)
    return union


def _check(leaves: Leaves, template: Leaves) -> None:
    if odd := sorted(leaves.keys() ^ template.keys()):
        missing = odd[0] in template
        problem = "is not in the params" if missing else "is no leaf of the model"
        raise ValueError(f"{odd[0]} {problem}{nearest(odd[0], leaves if missing else template)}")
    for path, leaf in leaves.items():
        check_shape(path, leaf, template[path])


def _kept(before: Config, after: Config, layer: int, name: str, size: int) -> np.ndarray:
    """Returns the indices along an axis of the heads that `after` keeps.

    An axis that is several times as long as the heads is a fused one: it holds several projections
    one after another, as GPT-2's `c_attn` holds those of q, k and v. One that is as long as there
    are heads holds one entry of each.
    """
    old, new = _KEPT[name](before, layer), _KEPT[name](after, layer)
    width = 1 if size == len(old) else before.head_dim
    return np.arange(size).reshape(-1, len(old), width)[:, np.isin(old, new)].ravel()


def _cut(path: str, leaf: Leaf, kept: np.ndarray, axis: int) -> Leaf:
    """Takes the indices [L or 1, size] along `axis` that each layer keeps."""
    size = kept.shape[1]
    if size == leaf.shape[axis]:
        return leaf
    shape = (*leaf.shape[:axis], size, *leaf.shape[axis + 1 :])
    _check_divides(path, leaf, shape, axis)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(shape=shape)
    index = [1] * leaf.ndim
    index[0], index[axis] = len(kept), size
    kept = kept.reshape(index)
    if isinstance(leaf, np.ndarray):
        return np.take_along_axis(leaf, kept, axis)
    take = jax.jit(_take, static_argnums=2, out_shardings=resize.result_sharding(leaf))
    return take(leaf, kept, axis)


_take = resize.on_device(jnp.take_along_axis)


def _check_divides(path: str, leaf: object, shape: tuple[int, ...], axis: int) -> None:
    sharding = None if isinstance(leaf, Tracer) else getattr(leaf, "sharding", None)
    if isinstance(sharding, jax.sharding.NamedSharding):
        try:
            sharding.shard_shape(shape)
        except ValueError:
            raise ValueError(
                f"{path}: axis {axis} has size {shape[axis]} without the pruned heads, which does "
                f"not divide over mesh axis {sharding.spec[axis]!r} of the mesh "
                f"{dict(sharding.mesh.shape)}; prune another number of heads, or replicate the leaf"
            ) from None
