"""Stacking: a model's layers as `layers/0/...`, `layers/1/...`, or as one `layers/...` whose leaves
have a leading layer axis (what `scan_layers` runs)."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from ..host.copies import copy, empty
from ..host.threads import in_threads
from ..types import Params, PyTree
from .paths import flatten, unflatten


def stack_layers(params: PyTree) -> Params:
    """Stacks every list of layers (children named "0", "1", ...) into one layer.

    Raises:
        ValueError: layers of a list that are missing, or differ in structure, shape or dtype; with
            the path.

    >>> stacked = stack_layers({"h": {"0": {"bias": np.zeros(3)}, "1": {"bias": np.ones(3)}}})
    >>> stacked["h"]["bias"].shape
    (2, 3)
    """
    return _stacked(params, "")


def _stacked(params: PyTree, where: str) -> Any:
    if not isinstance(params, Mapping):
        return params
    inner = {name: _stacked(child, f"{where}{name}/") for name, child in params.items()}
    if not inner or not all(name.isdecimal() for name in inner):
        return inner
    if lost := [str(i) for i in range(len(inner)) if str(i) not in inner]:
        raise ValueError(f"{where}{lost[0]} is missing of the layers {', '.join(sorted(inner))}")
    layers = [flatten(inner[str(i)]) for i in range(len(inner))]
    for i, layer in enumerate(layers):
        _same(layers[0], layer, f"{where}{i}")
    return unflatten({path: _stack([layer[path] for layer in layers]) for path in layers[0]})


def unstack_layers(params: PyTree, path: str) -> Params:
    """Takes the stacked layers at `path` ("model/layers") apart into a list of layers;
    `stack_layers` inverts it.

    Raises:
        ValueError: nothing is at `path`, or its leaves differ in their leading axis.

    >>> tree = {"h": {"bias": np.zeros((2, 3))}}
    >>> sorted(flatten(unstack_layers(tree, "h")))
    ['h/0/bias', 'h/1/bias']
    """
    leaves = flatten(params)
    inside = {name: leaf for name, leaf in leaves.items() if name.startswith(path + "/")}
    depths = {leaf.shape[:1] for leaf in inside.values()}
    if len(depths) != 1 or () in depths:
        raise ValueError(f"no stacked layers at {path!r}: leading axes there are {sorted(depths)}")
    for name, leaf in inside.items():
        del leaves[name]
        for i in range(leaf.shape[0]):
            leaves[f"{path}/{i}/{name.removeprefix(path + '/')}"] = _layer(leaf, i)
    return unflatten(leaves)


def _same(first: dict[str, Any], layer: dict[str, Any], where: str) -> None:
    if first.keys() != layer.keys():
        odd = sorted(first.keys() ^ layer.keys())
        raise ValueError(f"{where} and layer 0 do not have the same leaves: {odd[0]}")
    for path, leaf in layer.items():
        here, there = (leaf.shape, leaf.dtype), (first[path].shape, first[path].dtype)
        if here != there:
            raise ValueError(
                f"{where}/{path} has shape {here[0]} and dtype {here[1]}, in layer 0 it has "
                f"{there[0]} and {there[1]}"
            )


def _stack(leaves: list[Any]) -> Any:
    first = leaves[0]
    shape = (len(leaves), *first.shape)
    if isinstance(first, jax.ShapeDtypeStruct):
        return _abstract(first, shape, lambda axes, new: (new, *axes))
    if not all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves):
        traced = any(isinstance(leaf, Tracer) for leaf in leaves)
        where = None if traced else _moved(first.sharding, lambda axes, new: (new, *axes))
        return _compiled_stack(where)(*leaves)
    out = empty(shape, first.dtype)
    in_threads(lambda i: copy(np.asarray(leaves[i]), out[i, ...]), range(len(out)), out.nbytes)
    return out


@functools.lru_cache(maxsize=64)
def _compiled_stack(sharding: Any) -> Any:
    return jax.jit(lambda *leaves: jnp.stack(leaves), out_shardings=sharding)


def _layer(leaf: Any, index: int) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return _abstract(leaf, leaf.shape[1:], lambda axes, new: axes[1:])
    return leaf[index]


def _abstract(leaf: Any, shape: tuple[int, ...], change: Callable[..., Any]) -> Any:
    """Returns an abstract leaf of another shape, its axes and its sharding changed alike."""
    axes = getattr(leaf, "axes", None)
    named = {} if axes is None else {"axes": change(axes, "layers")}
    return leaf.update(shape=shape, sharding=_moved(leaf.sharding, change), **named)


def _moved(sharding: Any, change: Callable[..., Any]) -> Any:
    if not isinstance(sharding, NamedSharding):
        return None
    spec = PartitionSpec(*change(tuple(sharding.spec), None))
    return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
