"""Stacking: a model's layers as `layers/0/...`, `layers/1/...`, or as one `layers/...` whose leaves
have a leading layer axis (what `scan_layers` runs)."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from ..errors import some
from ..host.copies import copy, empty
from ..host.kernels import is_on_one_cpu, put_back
from ..host.threads import in_threads
from ..scalars import wrong_kind
from ..types import Leaf, Params, PyTree
from .layers import below_list, segment
from .measure import dtype_text
from .paths import arrays_of, check_alive, flatten, nearest, unflatten
from .weights import Weight

Segments = Sequence[tuple[int, int, int]]


def stack_layers(
    params: PyTree, stacks: Sequence[str] | None = None, *, segments: Segments | None = None
) -> Params:
    """Stacks lists of layers (children named "0", "1", ...) into one layer each; or into a layer
    for each place in a period, where layers of several kinds follow each other periodically.

    Args:
        stacks: the lists to stack, by name or by the end of their path ("layers",
            "encoder/layers"), as `model.naming.stacks` has them. All if None, and whatever else
            has children that are numbers.
        segments: (first layer, period, count) of each run of periods, in order. ((0, 6, 4),
            (24, 1, 2)) stacks 26 layers: "0+6" becomes layers 0, 6, 12, 18, and "1+6" to "5+6"
            those that follow each; "24+1" becomes layers 24 and 25. None, and ((0, 1, depth),),
            stacks all layers, under the name of the list itself.

    Raises:
        ValueError: a list that is not there; layers of one that are missing, or that are to be
            stacked and differ in structure, shape or dtype, with the path; segments that are not
            all layers of a list.

    >>> layers = {str(i): {"bias": np.full(3, i)} for i in range(4)}
    >>> stack_layers({"h": layers})["h"]["bias"].shape
    (4, 3)
    >>> stack_layers({"h": layers}, ["h"], segments=[(0, 2, 2)])["h"]["1+2"]["bias"][:, 0]
    array([1, 3])
    """
    stacks = (stacks,) if isinstance(stacks, str) else stacks
    for name, given in (("stacks", stacks), ("segments", segments)):
        if given is not None and (isinstance(given, bytes) or not isinstance(given, Sequence)):
            raise wrong_kind(name, given, "a list")
    if odd := [name for name in stacks or () if not isinstance(name, str)]:
        raise wrong_kind("stacks", odd[0], "names of lists of layers")
    paths = flatten(params)
    if stacks and paths and not any(f"/{x}/" in f"/{path}" for x in stacks for path in paths):
        modules = {name for path in paths for name in path.split("/")[:-1]}
        raise ValueError(
            f"the params have no list of layers {some(map(repr, stacks))}"
            f"{nearest(stacks[0], modules)}"
        )
    if segments is not None and not any(name.isdecimal() for x in paths for name in x.split("/")):
        raise ValueError("segments: the params have no list of layers, whose names are numbers")
    return _stacked(params, "", stacks, segments)


def _stacked(
    params: PyTree, where: str, stacks: Sequence[str] | None, segments: Segments | None
) -> PyTree:
    if not isinstance(params, Mapping):
        return params
    inner = {
        str(name): _stacked(child, f"{where}{name}/", stacks, segments)
        for name, child in params.items()
    }
    if not inner or not all(name.isdecimal() for name in inner):
        return inner
    if stacks is not None and not f"/{where}".endswith(tuple(f"/{name}/" for name in stacks)):
        return inner
    if lost := [str(i) for i in range(len(inner)) if str(i) not in inner]:
        raise ValueError(f"{where}{lost[0]} is missing of the layers {', '.join(sorted(inner))}")
    if segments is None or [*segments] == [(0, 1, len(inner))]:
        return _one(inner, range(len(inner)), where)
    return {
        segment(numbers[0], numbers.step): _one(inner, numbers, where)
        for numbers in _periods(segments, len(inner), where)
    }


def _periods(segments: Segments, depth: int, where: str) -> list[range]:
    """Returns the numbers of the layers that are stacked into each one."""
    found, at = [], 0
    for each in segments:
        is_segment = isinstance(each, Sequence) and len(each) == 3
        if not is_segment or not all(isinstance(x, int | np.integer) for x in each):
            break
        first, period, count = each
        if first != at or period < 1 or count < 1:
            break
        at += period * count
        found += [range(i, at, period) for i in range(first, first + period)]
    else:
        if at == depth:
            return found
    raise ValueError(
        f"segments {tuple(segments)!r} are not the {depth} layers of {where}: each is (first "
        "layer, period, count), and begins where the one before it ends"
    )


def _one(layers: Mapping[str, PyTree], numbers: range, where: str) -> PyTree:
    """Stacks the layers of these numbers."""
    flat = [flatten(layers[str(i)]) for i in numbers]
    for i, layer in zip(numbers, flat, strict=True):
        check_alive(arrays_of({f"{where}{i}/{path}": leaf for path, leaf in layer.items()}))
    for i, layer in zip(numbers, flat, strict=True):
        _same(flat[0], layer, f"{where}{i}", numbers[0])
    return unflatten({path: _stack([layer[path] for layer in flat]) for path in flat[0]})


def unstack_layers(params: PyTree, path: str) -> Params:
    """Takes the stacked layers at `path` ("model/layers") apart into a list of layers, segments
    ("model/layers/0+6") too; `stack_layers` inverts it.

    Raises:
        ValueError: nothing is stacked at `path`, its leaves differ in their leading axis, or two
            hold the same layer.

    >>> tree = {"h": {"bias": np.zeros((2, 3))}}
    >>> sorted(flatten(unstack_layers(tree, "h")))
    ['h/0/bias', 'h/1/bias']
    """
    leaves, made = {}, {}
    stacked: dict[tuple[int, int], dict[str, Leaf]] = {}
    for name, leaf in flatten(params).items():
        inside = name.removeprefix(f"{path}/")
        if inside == name or not (found := below_list(inside)):
            leaves[name] = leaf
        else:
            stacked.setdefault(found[:2], {})[found[2]] = leaf
    for (first, step), layers in stacked.items():
        depth = _depth(layers, path)
        for i, number in enumerate(range(first, first + step * depth, step)):
            layer = {f"{path}/{number}/{name}": _layer(leaf, i) for name, leaf in layers.items()}
            if twice := layer.keys() & (leaves.keys() | made.keys()):
                raise ValueError(f"two leaves stacked at {path!r} hold {min(twice)}")
            made |= layer
    if not made:
        raise ValueError(f"no stacked layers at {path!r}")
    return unflatten(leaves | made)


def _depth(layers: Mapping[str, Leaf], path: str) -> int:
    depths = {leaf.shape[:1] for leaf in layers.values()}
    if len(depths) != 1 or () in depths:
        raise ValueError(f"no stacked layers at {path!r}: leading axes there are {sorted(depths)}")
    return min(depths)[0]


def _same(first: Mapping[str, Leaf], layer: Mapping[str, Leaf], where: str, number: int) -> None:
    if first.keys() != layer.keys():
        odd = sorted(first.keys() ^ layer.keys())
        raise ValueError(f"{where} and layer {number} do not have the same leaves: {odd[0]}")
    for path, leaf in layer.items():
        here, there = (leaf.shape, leaf.dtype), (first[path].shape, first[path].dtype)
        if here != there:
            raise ValueError(
                f"{where}/{path} has shape {here[0]} and dtype {here[1]}, in layer {number} it has "
                f"{there[0]} and {there[1]}"
            )
        if jax.tree.structure(leaf) != jax.tree.structure(first[path]):
            raise ValueError(
                f"{where}/{path} is held as {dtype_text(leaf)}, in layer {number} as "
                f"{dtype_text(first[path])}: {leaf!r:.200} and {first[path]!r:.200}"
            )


def _stack(leaves: Sequence[Any]) -> Leaf | Weight:
    first = leaves[0]
    if isinstance(first, Weight):
        return jax.tree.map(lambda *parts: _stack(parts), *leaves)
    shape = (len(leaves), *first.shape)
    if isinstance(first, jax.ShapeDtypeStruct):
        return _abstract(first, shape, lambda axes, new: (new, *axes))
    on_host = all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves)
    on_cpu = not on_host and all(is_on_one_cpu(x) and x.sharding == first.sharding for x in leaves)
    if not (on_host or on_cpu):
        traced = any(isinstance(leaf, Tracer) for leaf in leaves)
        placed = next((leaf for leaf in leaves if isinstance(leaf, jax.Array)), first)
        where = None if traced else _moved(placed.sharding, lambda axes, new: (new, *axes))
        return _compiled_stack(where)(*leaves)
    out = empty(shape, first.dtype)
    in_threads(lambda i: copy(np.asarray(leaves[i]), out[i, ...]), range(len(out)), out.nbytes)
    return put_back(out, first) if on_cpu else out


@functools.lru_cache(maxsize=64)
def _compiled_stack(sharding: jax.sharding.Sharding | None) -> Callable[..., jax.Array]:
    return jax.jit(lambda *leaves: jnp.stack(leaves), out_shardings=sharding)


def _layer(leaf: Leaf | Weight, index: int) -> Leaf | Weight:
    if isinstance(leaf, Weight):
        return jax.tree.map(lambda part: _layer(part, index), leaf)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return _abstract(leaf, leaf.shape[1:], lambda axes, new: axes[1:])
    return leaf[index]


def _abstract(
    leaf: jax.ShapeDtypeStruct, shape: tuple[int, ...], change: Callable[..., tuple]
) -> jax.ShapeDtypeStruct:
    """Returns an abstract leaf of another shape, its axes and its sharding changed alike."""
    axes = getattr(leaf, "axes", None)
    named = {} if axes is None else {"axes": change(axes, "layers")}
    return leaf.update(shape=shape, sharding=_moved(leaf.sharding, change), **named)


def _moved(
    sharding: jax.sharding.Sharding | None, change: Callable[..., tuple]
) -> NamedSharding | None:
    if not isinstance(sharding, NamedSharding):
        return None
    spec = PartitionSpec(*change(tuple(sharding.spec), None))
    return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
