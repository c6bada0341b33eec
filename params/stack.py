"""Stacking: a model's layers as `layers/0/...`, `layers/1/...`, or as one `layers/...` whose leaves
have a leading layer axis (what `scan_layers` runs)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .paths import flatten, unflatten


def stack_layers(params: Any) -> dict[str, Any]:
    """Every list of layers (children named "0", "1", ...) as one stacked layer.

    Raises:
        ValueError: layers of a list that differ in structure or shape; with the path.

    >>> stack_layers({"h": {"0": {"bias": np.zeros(3)}, "1": {"bias": np.ones(3)}}})["h"]["bias"].shape
    (2, 3)
    """
    if not isinstance(params, dict):
        return params
    if params and all(key.isdecimal() for key in params):
        layers = [stack_layers(params[str(i)]) for i in range(len(params))]
        flat = [flatten(layer) for layer in layers]
        for i, layer in enumerate(flat):
            _same(flat[0], layer, i)
        return unflatten({path: _stack([layer[path] for layer in flat]) for path in flat[0]})
    return {key: stack_layers(value) for key, value in params.items()}


def unstack_layers(params: Any, path: str) -> dict[str, Any]:
    """The stacked layers at `path` ("model/layers") as a list of layers; `stack_layers` inverts it.

    Raises:
        ValueError: nothing is at `path`, or its leaves differ in their leading axis.

    >>> tree = {"h": {"bias": np.zeros((2, 3))}}
    >>> sorted(flatten(unstack_layers(tree, "h")))
    ['h/0/bias', 'h/1/bias']
    """
    leaves = flatten(params)
    inside = {name: leaf for name, leaf in leaves.items() if name.startswith(path + "/")}
    depths = {leaf.shape[0] if leaf.shape else 0 for leaf in inside.values()}
    if len(depths) != 1:
        raise ValueError(f"no stacked layers at {path!r}: leading axes there are {sorted(depths)}")
    for name, leaf in inside.items():
        del leaves[name]
        for i in range(leaf.shape[0]):
            leaves[f"{path}/{i}/{name.removeprefix(path + '/')}"] = _layer(leaf, i)
    return unflatten(leaves)


def _same(first: dict[str, Any], layer: dict[str, Any], index: int) -> None:
    if first.keys() != layer.keys():
        odd = sorted(first.keys() ^ layer.keys())
        raise ValueError(f"layer {index} and layer 0 do not have the same leaves: {odd[0]}")
    for path, leaf in layer.items():
        if leaf.shape != first[path].shape:
            raise ValueError(
                f"{path} has shape {leaf.shape} in layer {index}, {first[path].shape} in layer 0"
            )


def _stack(leaves: list[Any]) -> Any:
    first = leaves[0]
    if isinstance(first, jax.ShapeDtypeStruct):
        shape = (len(leaves), *first.shape)
        axes = getattr(first, "axes", None)
        return first.update(shape=shape, **({"axes": ("layers", *axes)} if axes is not None else {}))
    return np.stack(leaves) if isinstance(first, np.ndarray) else jnp.stack(leaves)


def _layer(leaf: Any, index: int) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        axes = getattr(leaf, "axes", None)
        return leaf.update(shape=leaf.shape[1:], **({"axes": axes[1:]} if axes is not None else {}))
    return leaf[index]
