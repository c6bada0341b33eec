"""Places: where each piece of a leaf stands in a checkpoint, by the rule of `naming.py`."""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Any

from .layers import LAYERS, layer_paths
from .naming import FLAX, PATHS, TORCH, Naming
from .paths import matches

_WEIGHTS = ("kernel", "scale", "embedding")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one piece of a leaf stands in a checkpoint.

    Attributes:
        name: the tensor's name.
        shape: the tensor's.
        permutation: `leaf_piece = tensor.transpose(permutation)`.
        index: leading index of the piece in the leaf: () for a whole leaf, (i,) for the i-th of the
            layers that it holds, (i, j) for the j-th of the experts of that layer.
    """

    name: str
    shape: tuple[int, ...]
    permutation: tuple[int, ...]
    index: tuple[int, ...] = ()


def places(
    leaves: Mapping[str, Any], naming: Naming, layout: str, *, apart: bool = True
) -> dict[str, tuple[Place, ...]]:
    """Returns the places of the pieces of each leaf, by its path, in the order of its leading axes.

    Args:
        leaves: with `shape`, and `axes` if any of them is stacked: all of a template, by path.
        layout: `TORCH`, `FLAX`, `TF` or `PATHS`.
        apart: for `PATHS`: whether that tree has layers apart.

    Raises:
        CheckpointError: a stacked leaf in no list of layers.
    """
    lists = naming.lists
    if layout == PATHS:  # our own trees have the experts of a layer in one leaf
        lists = {LAYERS: naming.stacks}
    made = {}
    for path, leaf in leaves.items():
        whole = layout == PATHS and not apart
        names = {(): path} if whole else layer_paths(path, leaf, lists)
        axes = getattr(leaf, "axes", ())
        batch = len([*itertools.takewhile(naming.lists.__contains__, axes)])
        made[path] = tuple(
            _place(name, leaf.shape[len(index) :], batch - len(index), index, naming, layout)
            for index, name in names.items()
        )
    return made


def _place(
    path: str,
    shape: tuple[int, ...],
    batch: int,
    index: tuple[int, ...],
    naming: Naming,
    layout: str,
) -> Place:
    """Returns the place of a piece at `path`, the first `batch` of whose axes are no layer's own:
    they number layers or experts, and stay in front."""
    name, permutation = path, _permutation(path, len(shape), batch, naming, layout)
    if layout == FLAX:
        name = flax_name(path, naming)
    elif layout != PATHS:
        parents, _, leaf = path.rpartition("/")
        name = f"{parents}/weight" if leaf in _WEIGHTS else path
        name = name.strip("/").replace("/", ".")
    stored = [0] * len(shape)
    for axis, size in zip(permutation, shape, strict=True):
        stored[axis] = size
    return Place(name, tuple(stored), permutation, index)


def _permutation(path: str, rank: int, batch: int, naming: Naming, layout: str) -> tuple[int, ...]:
    identity = tuple(range(rank))
    front, inner = identity[:batch], identity[batch:]
    if path.rpartition("/")[2] != "kernel" or len(inner) < 2:
        return identity
    if layout == FLAX and matches(naming.flax_kernels_out_in, flax_name(path, naming)):
        return (*front, *inner[::-1])
    if layout == TORCH and not matches(naming.kernels_in_out, path):
        # (out, in, *window) -> (*window, in, out)
        return (*front, *inner[2:], inner[1], inner[0])
    return identity


def flax_name(path: str, naming: Naming) -> str:
    """Returns what old Flax calls a leaf."""
    for pattern, replacement in naming.flax_names:
        path = re.sub(pattern, replacement, path)
    return path
