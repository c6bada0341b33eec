"""Selecting: trees in parts, and together again."""

from typing import Any

from .masks import Mask, as_mask
from .paths import flatten, unflatten


def select(params: Any, mask: Mask) -> dict[str, Any]:
    """The subtree of the leaves that `mask` selects; branches left empty go.

    >>> select({"a": {"x": 1, "y": 2}, "b": 3}, lambda path, _: path == "a/x")
    {'a': {'x': 1}}
    """
    return partition(params, mask)[0]


def partition(params: Any, mask: Mask) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the leaves that `mask` selects, the others), each a tree; `merge` joins them again.

    >>> partition({"a": {"x": 1, "y": 2}}, {"a": {"x": True, "y": False}})
    ({'a': {'x': 1}}, {'a': {'y': 2}})
    """
    chosen = flatten(as_mask(mask, params))
    leaves = flatten(params)
    return (
        unflatten({path: leaf for path, leaf in leaves.items() if chosen[path]}),
        unflatten({path: leaf for path, leaf in leaves.items() if not chosen[path]}),
    )


def merge(*trees: Any) -> dict[str, Any]:
    """One tree of all leaves of `trees`.

    Raises:
        ValueError: two of them have a leaf at the same path.

    >>> merge({"a": {"x": 1}}, {"a": {"y": 2}})
    {'a': {'x': 1, 'y': 2}}
    """
    merged: dict[str, Any] = {}
    for tree in trees:
        for path, leaf in flatten(tree).items():
            if path in merged:
                raise ValueError(f"two of the trees have a leaf at {path}")
            merged[path] = leaf
    return unflatten(merged)
