"""Adapters merged into the weights that they change, and taken out again."""

import functools
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..quantized.make import quantize_leaf
from ..quantized.qtensor import QTensor
from ..scalars import flag
from ..tree.paths import flatten, unflatten
from ..types import Params
from .adapted_weight import AdaptedWeight, over_layers, with_all
from .adapter import ALL, Adapter, Base, wide
from .attach import active_adapters, adapted_leaves, adapter_names, known_names, refuse_merged
from .lora import wide_dense

QUANTIZED = ("dequantize", "requantize")


def merge_adapters(
    params: Params,
    names: str | Iterable[str] | None = None,
    *,
    keep: bool = False,
    quantized: str = "dequantize",
) -> Params:
    """Returns params with adapters merged into the weights, which then cost no more than the base.

    Each weight is computed in float32, one at a time, and rounded to its dtype.

    Args:
        names: the adapters, merged in this order; those that act if None. Others are dropped.
        keep: keep all adapters beside the weights, for `unmerge_adapters`. Trained tokens and what
            is replaced as a whole are not merged then, and act as before.
        quantized: what becomes of a quantised weight: "dequantize", an array of its logical dtype;
            "requantize", codes of the same form, rounded anew.

    Raises:
        ValueError: an unknown name; adapters of which none acts; a weight that would not be finite;
            an adapter of the lookups alone of a table that is a head too; one that adds to a bias,
            where there is none; one that is merged already; with the path.
    """
    flag("keep", keep)
    if quantized not in QUANTIZED:
        raise ValueError(f"quantized is {quantized!r}; expected one of {', '.join(QUANTIZED)}")
    names = known_names(params, active_adapters(params) if names is None else names)
    if not names and adapter_names(params):
        raise ValueError(
            f"none of the adapters {', '.join(adapter_names(params))} acts, and nothing would be "
            "merged; name some, or fp.without_adapters(params) takes them off"
        )
    leaves = flatten(params)
    for path, leaf in adapted_leaves(params).items():
        refuse_merged(path, leaf)
        own = {name: leaf.adapters[name] for name in names if name in leaf.adapters}
        if keep:
            own = {name: each for name, each in own.items() if each.is_invertible}
        if own:
            leaves |= _merged(path, leaves, own, quantized)
        if not keep:
            leaves[path] = leaves[path].base
    return unflatten(leaves)


def unmerge_adapters(params: Params) -> Params:
    """Returns params with all that `merge_adapters(keep=True)` merged taken out of the weights,
    which have what they had before but for rounding.

    Raises:
        ValueError: nothing is merged.
    """
    leaves, merged = flatten(params), adapted_leaves(params)
    merged = {path: leaf for path, leaf in merged.items() if leaf.merged}
    if not merged:
        raise ValueError("no adapter is merged into these params")
    for path in merged:
        leaves |= _parted(path, leaves)
    return unflatten(leaves)


def _parted(path: str, leaves: Params) -> Params:
    """Takes what is merged out of the weight at `path` -> what changes, as `_merged`."""
    leaf: AdaptedWeight = leaves[path]
    names = leaf.merged[::-1]
    out = _without_configs(leaf.adapters[name] for name in names)
    base = _on_host(_base_without(leaf.base, out), leaf.base)
    own = {**leaf.adapters, **{name: leaf.adapters[name].after_merge() for name in names}}
    found: Params = {path: leaf.replace(base=base, adapters=own, merged=())}
    beside = _beside(path)
    if beside in leaves and any(each.changes_bias for each in out):
        new, _ = _bias(leaves[beside], out, merged=False)
        found[beside] = _on_host(new, leaves[beside])
    return found


def _merged(path: str, leaves: Params, own: Mapping[str, Adapter], quantized: str) -> Params:
    """Merges adapters into the weight at `path` -> what changes: it, and the bias beside it."""
    leaf: AdaptedWeight = leaves[path]
    if isinstance(jax.tree.leaves(leaf)[0], jax.ShapeDtypeStruct):
        raise ValueError(f"{path} is abstract, and merging computes; give params that have values")
    if parts := [(name, each.part) for name, each in own.items() if each.part != ALL]:
        raise ValueError(
            f"{path}: the adapter {parts[0][0]!r} is of the {parts[0][1]} alone of a table that is "
            "a head too: untie them first, or keep the adapter beside it"
        )

    base, kept, finite = _base_with(leaf.base, _without_configs(own.values()), quantized)
    _check_finite(finite, path, own)
    every = dict(leaf.adapters)
    for (name, adapter), each in zip(own.items(), kept, strict=True):
        every[name] = each.replace(config=adapter.config)
    base = _on_host(base, leaf.base)
    made = leaf.replace(base=base, adapters=every, merged=tuple(own))
    found: Params = {path: made}
    changes = [each for each in own.values() if each.changes_bias]
    beside = _beside(path)
    if changes and beside not in leaves:
        if odd := [name for name, each in own.items() if each.needs_bias]:
            raise ValueError(f"{path}: the adapter {odd[0]!r} adds to a bias, and there is none")
        return found
    bias = leaves[beside] if changes else None
    if isinstance(bias, AdaptedWeight):
        raise ValueError(
            f"{beside}: a bias that is adapted, beside a weight whose adapters change "
            "it, is not merged; keep the adapters beside them"
        )
    if changes:
        new, finite = _bias(bias, _without_configs(changes), merged=True)
        _check_finite(finite, beside, own)
        found[beside] = _on_host(new, bias)
    return found


def _without_configs(adapters: Iterable[Adapter]) -> list[Adapter]:
    """Returns adapters as programs take them: the same one for any configuration."""
    return [each.replace(config=None) for each in adapters]


# One compiled program for all weights of a shape, whose float32 is one layer's.


@functools.partial(jax.jit, static_argnums=2)
def _base_with(
    base: Base, adapters: list[Adapter], quantized: str
) -> tuple[Base, list[Adapter], jax.Array]:
    """Returns a weight with adapters in it, the adapters, and whether its numbers are finite."""

    def one(base: Base, adapters: list[Adapter]) -> tuple[Base, list[Adapter], jax.Array]:
        dense, w = wide_dense(base), with_all(base, adapters)
        finite = jnp.isfinite(w.astype(base.dtype)).all()
        return _like(w, base, quantized), [x.before_merge(dense) for x in adapters], finite

    return over_layers(one, base, adapters)


@jax.jit
def _base_without(base: Base, adapters: list[Adapter]) -> Base:
    """Returns what `_base_with` made a weight of."""

    def one(base: Base, adapters: list[Adapter]) -> Base:
        w = wide_dense(base)
        for each in adapters:
            w = each.off_weight(w)
        return _like(w, base, "requantize")

    return over_layers(one, base, adapters)


@functools.partial(jax.jit, static_argnames="merged")
def _bias(bias: jax.Array, adapters: list[Adapter], *, merged: bool) -> tuple[jax.Array, jax.Array]:
    """Returns the bias beside a weight that adapters are merged into, or taken out of again, and
    whether it is finite."""

    def one(bias: jax.Array, adapters: list[Adapter]) -> tuple[jax.Array, jax.Array]:
        b = wide(bias)
        for each in adapters:
            b = each.on_bias(b) if merged else each.off_bias(b)
        return b.astype(bias.dtype), jnp.isfinite(b).all()

    return over_layers(one, bias, adapters)


def _check_finite(finite: jax.Array, path: str, names: Iterable[str]) -> None:
    if not isinstance(finite, Tracer) and not bool(finite.all()):
        raise ValueError(
            f"{path} with the adapters {', '.join(names)} in it is not finite; nothing is merged"
        )


def _like(w: jax.Array, base: Base, quantized: str) -> Base:
    """Returns a merged weight as its base is held."""
    if isinstance(base, QTensor) and quantized == "requantize":
        return quantize_leaf(w, base.form)
    return w.astype(base.dtype)


def _on_host(new: Base, old: object) -> Base | np.ndarray:
    """Returns a new array as one of NumPy where the old one is."""
    there = isinstance(old, np.ndarray) and not isinstance(new, Tracer)
    return np.asarray(new) if there else new


def _beside(path: str) -> str:
    """Returns the path of the bias beside a weight."""
    module, slash, _ = path.rpartition("/")
    return f"{module}{slash}bias"
