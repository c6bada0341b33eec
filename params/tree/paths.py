"""Paths: the one spelling of a leaf, `model/layers/0/self_attn/q_proj/kernel`."""

import difflib
import functools
import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.tree_util import DictKey, KeyPath, keystr, tree_flatten_with_path

from ..types import Leaf, Params, PyTree
from .weights import is_weight

T = TypeVar("T")


def path_of(key_path: KeyPath) -> str:
    """Returns the spelling of a JAX key path."""
    # Most keys are of dicts, and `keystr` takes several times as long for them.
    names = [str(x.key) if type(x) is DictKey else keystr((x,), simple=True) for x in key_path]
    return "/".join(names)


def flatten(tree: PyTree) -> dict[str, Any]:
    """Returns a nested tree as `{path: leaf}`, in the tree's own (sorted) order; a quantised weight
    is one leaf.

    Raises:
        ValueError: two leaves have one path: {"a/b": 1, "a": {"b": 2}}.

    >>> flatten({"a": {"b": 1, "c": 2}})
    {'a/b': 1, 'a/c': 2}
    """
    flat: dict[str, Leaf] = {}
    for key_path, leaf in _leaves(tree, is_weight):
        path = path_of(key_path)
        if path in flat:
            raise ValueError(f"two leaves of the tree have the path {path!r}")
        flat[path] = leaf
    return flat


def arrays_of(leaves: Mapping[str, T]) -> Mapping[str, T]:
    """Returns the leaves of a tree by path, all of them arrays, abstract ones or weights.

    Raises:
        ValueError: one is something else, with its path.
    """
    for path, leaf in leaves.items():
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            kind = type(leaf).__name__
            raise ValueError(f"{path or 'the tree'} is {leaf!r:.50}, a {kind}; expected an array")
        if isinstance(leaf, np.ma.MaskedArray):
            raise ValueError(f"{path or 'the tree'} is a masked array; give leaf.filled(...)")
    return leaves


def check_alive(leaves: Mapping[str, object]) -> None:
    """Refuses arrays whose memory was given away.

    Raises:
        ValueError: with the path.
    """
    for path, leaf in leaves.items():
        if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and leaf.is_deleted():
            raise ValueError(
                f"{path or 'the tree'} was deleted: its memory was donated to what was computed "
                "of it, which is to be used in its place"
            )


def flatten_arrays(tree: PyTree, is_leaf: Callable[[object], bool] | None = None) -> dict[str, Any]:
    """Returns a nested tree as `{path: array}`: those of a quantised weight one by one, unless
    `is_leaf` says that it is none."""
    return {path_of(keys): leaf for keys, leaf in _leaves(tree, is_leaf)}


def _leaves(tree: PyTree, is_leaf: Callable[[object], bool] | None) -> list[tuple[KeyPath, Leaf]]:
    try:
        return tree_flatten_with_path(tree, is_leaf)[0]
    except ValueError as error:
        if "Comparator" not in str(error):
            raise
        raise ValueError(
            "a dict of the tree has keys of several types, such as 0 and '0'"
        ) from None


def unflatten(flat: Mapping[str, object]) -> PyTree:
    """Returns the nested dict of `{path: leaf}`; `{"": leaf}` is the leaf itself.

    Raises:
        TypeError: what is no mapping, or a key that is no text.
        ValueError: one path runs through another path's leaf.

    >>> unflatten({"a/b": 1, "a/c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    if not isinstance(flat, Mapping):
        raise TypeError(f"unflatten takes {{path: leaf}}, got a {type(flat).__name__}")
    for path in flat:
        if not isinstance(path, str):
            raise TypeError(f'the path {path!r:.80} is no text such as "a/b"')
    if flat.keys() == {""}:
        return flat[""]
    tree: Params = {}
    leaves = set(flat)
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for depth, parent in enumerate(parents, 1):
            if "/".join(parents[:depth]) in leaves:
                raise ValueError(f"{path} runs through the leaf {'/'.join(parents[:depth])}")
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def matches(patterns: str | Iterable[str], path: str) -> bool:
    """Tells whether any of the regular expressions is found in `path`."""
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return any(compiled(pattern).search(path) for pattern in patterns)


@functools.lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """Returns a regular expression, as callers give them.

    Raises:
        ValueError: it is none, with what is wrong.
    """
    try:
        if isinstance(pattern, bytes):
            raise TypeError("it is bytes, and paths are text")
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression: {error}") from None


def nearest_above(path: str, names: Container[str]) -> str | None:
    """Returns the first of a path, and the paths of what it is in, that is among `names`; the
    whole tree has the path "". None if none is.

    >>> nearest_above("a/b/c", {"a", "b"})
    'a'
    """
    while path not in names:
        if not path:
            return None
        path = path.rpartition("/")[0]
    return path


def natural(path: str) -> list[str | tuple[int, str]]:
    """Returns a key to sort paths by, numbers in them by size, however many digits they have.

    >>> sorted(["h/10/w", "h/9/w"], key=natural)
    ['h/9/w', 'h/10/w']
    """
    parts = re.split("([0-9]+)", path)  # texts and numbers by turns
    numbers = [number.lstrip("0") for number in parts[1::2]]
    return [
        x if i % 2 == 0 else (len(numbers[i // 2]), numbers[i // 2]) for i, x in enumerate(parts)
    ]


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns " (nearest: a, b)" for an error about a name that is not there; "" if nothing is
    near."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f" (nearest: {', '.join(close)})" if close else ""
