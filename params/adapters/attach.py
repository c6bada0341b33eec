"""Adapters of a tree of params: put on and taken off, told to act or not."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from graphlib import TopologicalSorter

import numpy as np

from ..tree.paths import flatten, nearest, unflatten
from ..types import Params
from .adapted_weight import AdaptedWeight
from .adapter import Adapter, Base


def adapted(params: Params, function: Callable[[str, AdaptedWeight], Base]) -> Params:
    """Returns a tree with `function(path, weight)` in the place of each weight with adapters."""
    changed = {path: function(path, leaf) for path, leaf in adapted_leaves(params).items()}
    return unflatten({**flatten(params), **changed})


def adapted_leaves(params: Params) -> dict[str, AdaptedWeight]:
    """Returns the weights with adapters, by path."""
    return {p: leaf for p, leaf in flatten(params).items() if isinstance(leaf, AdaptedWeight)}


_NAME = re.compile(r"[^/\\.]{1,100}")


def attach(params: Params, name: str, adapters: Mapping[str, Adapter]) -> Params:
    """Returns params with an adapter more, which acts beside those that act already.

    Args:
        params: a tree of arrays, of quantised weights, or abstract.
        name: of the adapter: no "/" and no ".".
        adapters: {path of a leaf: what changes it}.

    Raises:
        TypeError: what is no adapter.
        ValueError: a name that there is already; a path that the params do not have; arrays of
            other shapes than the weight's, as of an adapter of another base: both are named.
    """
    check_new_name(params, name)
    leaves = flatten(params)
    for path, adapter in adapters.items():
        if path not in leaves:
            raise ValueError(
                f"the adapter {name!r} is for {path}, which the params do not have"
                f"{nearest(path, leaves)}"
            )
        if not isinstance(adapter, Adapter):
            raise TypeError(f"{path}: {adapter!r:.100} is no adapter; fp.get_adapters gives some")
        leaf = leaves[path]
        if not isinstance(leaf, AdaptedWeight):
            leaf = AdaptedWeight(leaf, {})
        check_fits(f"{path}, adapter {name!r}", leaf, adapter)
        own = {**leaf.adapters, name: adapter}
        leaves[path] = leaf.replace(adapters=own, active=(*leaf.active, name))
    return unflatten(leaves)


def check_new_name(params: Params, name: str) -> None:
    """Raises `ValueError` if a new adapter cannot have a name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not name.isprintable():
        raise ValueError(
            f"an adapter cannot have the name {name!r}: 1 to 100 characters that are printed, "
            "without '/', '\\' and '.', since it is that of a folder too"
        )
    if name in adapter_names(params):
        raise ValueError(
            f"the params have an adapter {name!r} already; give another adapter_name, or "
            "fp.delete_adapters(params, name) first"
        )


def check_fits(where: str, leaf: AdaptedWeight, adapter: Adapter) -> None:
    """Raises `ValueError` unless an adapter's arrays fit the weight."""
    if lost := adapter.missing:
        raise ValueError(f"{where}: {adapter.method} has no {lost[0]}")
    lead = adapter.lead
    layers, shape = leaf.shape[:lead], leaf.shape[lead:]
    for field, expected in adapter.shapes(shape).items():
        array = getattr(adapter, field)
        if array is not None and tuple(array.shape) != (*layers, *expected):
            raise ValueError(
                f"{where}: {adapter.method} has {field} of shape {tuple(array.shape)}; beside a "
                f"weight of {leaf.shape} it is {(*layers, *expected)}. Is it of another base?"
            )


def adapter_names(params: Params) -> tuple[str, ...]:
    """Returns the names of the adapters of params, sorted."""
    return tuple(sorted({name for x in adapted_leaves(params).values() for name in x.adapters}))


def active_adapters(params: Params) -> tuple[str, ...]:
    """Returns the names of the adapters that act, in order."""
    before: dict[str, set[str]] = {}
    for leaf in adapted_leaves(params).values():
        for i, name in enumerate(leaf.active if leaf.enabled else ()):
            before.setdefault(name, set()).update(leaf.active[:i])
    return tuple(TopologicalSorter(before).static_order())


def get_adapters(params: Params, name: str) -> dict[str, Adapter]:
    """Returns the parts of an adapter, by the path of the weight that each changes.

    Raises:
        ValueError: there is no such adapter.
    """
    (name,) = known_names(params, (name,))
    leaves = adapted_leaves(params).items()
    return {path: x.adapters[name] for path, x in leaves if name in x.adapters}


def set_adapters(params: Params, names: str | Iterable[str]) -> Params:
    """Returns params of which these adapters act, one after another in this order, and no others.

    Raises:
        ValueError: a name that no adapter has.
    """
    names = known_names(params, names)

    def one(path: str, leaf: AdaptedWeight) -> AdaptedWeight:
        own = tuple(name for name in names if name in leaf.adapters)
        return leaf.replace(active=own, enabled=True)

    return adapted(params, one)


def enable_adapters(params: Params, enabled: bool = True) -> Params:
    """Returns params whose active adapters act, or with False compute what the base does.

    Raises:
        TypeError: `enabled` is no bool.
        ValueError: to be turned off, and merged.
    """
    if not isinstance(enabled, bool | np.bool_):
        raise TypeError(f"enabled is {enabled!r}; fp.set_adapters takes names")

    def one(path: str, leaf: AdaptedWeight) -> AdaptedWeight:
        if not enabled:
            refuse_merged(path, leaf)
        return leaf.replace(enabled=enabled)

    return adapted(params, one)


def delete_adapters(params: Params, names: str | Iterable[str]) -> Params:
    """Returns params without these adapters; a weight that has none left is its base again.

    Raises:
        ValueError: a name that no adapter has, or one that is merged.
    """
    gone = set(known_names(params, names))

    def one(path: str, leaf: AdaptedWeight) -> Base:
        refuse_merged(path, leaf, gone)
        left = {name: each for name, each in leaf.adapters.items() if name not in gone}
        active = tuple(name for name in leaf.active if name not in gone)
        return leaf.replace(adapters=left, active=active) if left else leaf.base

    return adapted(params, one)


def refuse_merged(path: str, leaf: AdaptedWeight, names: Collection[str] | None = None) -> None:
    """Raises `ValueError` if an adapter, one of `names` if they are given, is merged."""
    if merged := [name for name in leaf.merged if names is None or name in names]:
        raise ValueError(
            f"{path}: the adapter {merged[0]!r} is merged into the weight; fp.unmerge_adapters "
            "first"
        )


def without_adapters(params: Params) -> Params:
    """Returns the params of the base alone.

    Raises:
        ValueError: an adapter that is merged.
    """
    return delete_adapters(params, adapter_names(params))


def known_names(params: Params, names: str | Iterable[str]) -> tuple[str, ...]:
    """Returns names of adapters, one or several, as a tuple.

    Raises:
        TypeError: they are no texts.
        ValueError: one that no adapter has, or one twice.
    """
    given = [names] if isinstance(names, str) or not isinstance(names, Iterable) else [*names]
    if not all(isinstance(x, str) for x in given):
        raise TypeError(f"adapters are named by a text or several, got {names!r}")
    names, known = tuple(given), adapter_names(params)
    if len({*names}) < len(names):
        raise ValueError(f"the adapters are {', '.join(names)}; name each of them once")
    for name in names:
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"the params have no adapter {name!r}; {there}")
    return names
