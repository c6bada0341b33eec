"""Masks: which leaves of a tree something is done to. One notion for all of the library."""

from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np
from jax.core import Tracer
from jax.tree_util import tree_map_with_path

from ..scalars import wrong_kind
from ..types import Leaf, PyTree
from .paths import flatten, flatten_arrays, matches, nearest, nearest_above, path_of
from .weights import is_weight

Mask = bool | None | Mapping[str, object] | Callable[[str, Leaf], bool]
"""`True` or None: every leaf; a tree of bools with the structure of the params or a prefix of it;
or `predicate(path, leaf)`."""


def as_mask(mask: Mask, params: PyTree) -> PyTree:
    """Returns `mask` as a tree of bools with the structure of `params`.

    A tree is paired with `params` by path, never by position, so the order of keys and the kind
    of mapping (dict, FrozenDict) do not matter.

    Raises:
        ValueError: `mask` misses a leaf of `params`, names one that is not there, or holds
            something other than a bool; with the path.

    >>> as_mask({"b": False, "a": True}, {"a": {"x": 1, "y": 2}, "b": 3})
    {'a': {'x': True, 'y': True}, 'b': False}
    >>> as_mask(lambda path, leaf: path.endswith("x"), {"a": {"x": 1, "y": 2}})
    {'a': {'x': True, 'y': False}}
    """
    if mask is None:
        mask = True
    if isinstance(mask, bool):
        return jax.tree.map(lambda _: mask, params, is_leaf=is_weight)
    if callable(mask):
        return tree_map_with_path(
            lambda path, leaf: _decided(path_of(path), mask(path_of(path), leaf)),
            params,
            is_leaf=is_weight,
        )
    given = flatten_arrays(mask, is_leaf=lambda x: x is None)
    chosen = {path: _bool(path, value) for path, value in given.items()}
    used: set[str] = set()

    def select(key_path, _):
        path = path_of(key_path)
        if (prefix := nearest_above(path, chosen)) is None:
            raise ValueError(
                f"the mask has no entry for {path}{nearest(path, chosen)}; give every leaf, or "
                "a subtree's name, a bool"
            )
        used.add(prefix)
        return chosen[prefix]

    tree = tree_map_with_path(select, params, is_leaf=is_weight)
    if unused := sorted(set(chosen) - used - {""}):
        raise ValueError(
            f"the mask names {unused[0]!r}, which the params do not have"
            f"{nearest(unused[0], flatten(params))}"
        )
    return tree


def mask_except(params: PyTree, patterns: str | Iterable[str]) -> PyTree:
    """Returns the mask of every leaf whose path none of the regular expressions matches.

    `to_bf16(params, mask_except(params, ["LayerNorm", "ln_"]))` keeps norms, scale and bias
    both, as they are.

    Raises:
        ValueError: a pattern matches no path at all, or is none.

    >>> mask_except({"norm": {"scale": 1, "bias": 2}, "kernel": 3}, "norm")
    {'kernel': True, 'norm': {'bias': False, 'scale': False}}
    """
    if not isinstance(patterns, Iterable):
        raise wrong_kind("patterns", patterns, "a regular expression, or several")
    given = (patterns,) if isinstance(patterns, str | bytes) else tuple(patterns)
    paths = flatten(params)
    for pattern in given:
        if not any(matches((pattern,), path) for path in paths):
            raise ValueError(f"pattern {pattern!r} matches no path{nearest(pattern, paths)}")
    return as_mask(lambda path, _: not matches(given, path), params)


def _decided(path: str, value: object) -> bool:
    """Returns whether what a predicate gave counts as true; refuses several values, or traced."""
    if isinstance(value, Tracer) or (isinstance(value, jax.Array | np.ndarray) and value.shape):
        kind = "a traced value" if isinstance(value, Tracer) else f"an array of shape {value.shape}"
        raise ValueError(
            f"the mask's predicate gave {kind} for {path}; expected a bool, by the path, or by the "
            "leaf's shape and dtype"
        )
    return bool(value)


def _bool(path: str, value: object) -> bool:
    is_bool = isinstance(value, bool | np.bool_) or (
        isinstance(value, jax.Array | np.ndarray) and value.shape == () and value.dtype == bool
    )
    if not is_bool:
        raise ValueError(f"the mask holds {value!r} at {path or 'its root'}; expected a bool")
    return bool(value)
