"""Selecting: trees in parts, and together again."""

from typing import Any

from ..types import Leaf, Params, PyTree
from .masks import Mask, as_mask
from .paths import flatten, nearest, unflatten


def select(params: PyTree, mask: Mask) -> Params:
    """Returns the subtree of the leaves that `mask` selects; branches left empty go.

    >>> select({"a": {"x": 1, "y": 2}, "b": 3}, lambda path, _: path == "a/x")
    {'a': {'x': 1}}
    """
    return partition(params, mask)[0]


def get_leaf(params: PyTree, target: str) -> Any:
    """Returns the leaf at `target`, a path with slashes or with dots.

    Raises:
        KeyError: nothing is there; with the nearest names.
        ValueError: what is there is not a leaf.

    >>> get_leaf({"a": {"x": 1}}, "a.x")
    1
    """
    path = str(target).replace(".", "/")
    leaves = flatten(params)
    if path in leaves:
        return leaves[path]
    inside = [leaf for leaf in leaves if leaf.startswith(f"{path}/")]
    if inside:
        raise ValueError(f"{path} is no leaf; it holds {', '.join(inside[:3])}")
    raise KeyError(f"the params have no leaf {path!r}{nearest(path, leaves)}")


def partition(params: PyTree, mask: Mask) -> tuple[Params, Params]:
    """Returns (the leaves that `mask` selects, the others), each a tree; `merge` joins them again.

    >>> partition({"a": {"x": 1, "y": 2}}, {"a": {"x": True, "y": False}})
    ({'a': {'x': 1}}, {'a': {'y': 2}})
    """
    chosen = flatten(as_mask(mask, params))
    leaves = flatten(params)
    return (
        unflatten({path: leaf for path, leaf in leaves.items() if chosen[path]}),
        unflatten({path: leaf for path, leaf in leaves.items() if not chosen[path]}),
    )


def merge(*trees: PyTree) -> Params:
    """Returns one tree of all leaves of `trees`.

    Raises:
        ValueError: two of them have a leaf at the same path.

    >>> merge({"a": {"x": 1}}, {"a": {"y": 2}})
    {'a': {'x': 1, 'y': 2}}
    """
    merged: dict[str, Leaf] = {}
    for tree in trees:
        for path, leaf in flatten(tree).items():
            if path in merged:
                raise ValueError(f"two of the trees have a leaf at {path}")
            merged[path] = leaf
    return unflatten(merged)
