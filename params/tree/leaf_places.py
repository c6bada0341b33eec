"""Places: where each piece of a leaf stands in a checkpoint, by the rule of `naming.py`."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..errors import CheckpointError
from ..types import Leaf
from .layers import EXPERTS, LAYERS, layer_paths
from .naming import FLAX, PATHS, PLAIN, TF, TORCH, Constant, Naming
from .paths import compiled, matches

_WEIGHTS = ("kernel", "scale", "embedding")


@dataclasses.dataclass(frozen=True)
class Part:
    """Numbers `start` to `stop` of each of the `groups` equal runs of a tensor along `axis`."""

    axis: int
    groups: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one piece of a leaf stands in a checkpoint.

    Attributes:
        name: the tensor's name.
        shape: the tensor's.
        permutation: `leaf_piece = tensor.transpose(permutation)`.
        index: leading index of the piece in the leaf: () for a whole leaf, (i,) for the i-th of the
            layers that it holds, (i, j) for the j-th of the experts of that layer.
        part: what of the tensor the piece is, if it holds several leaves.
    """

    name: str
    shape: tuple[int, ...]
    permutation: tuple[int, ...]
    index: tuple[int, ...] = ()
    part: Part | None = None

    @classmethod
    def as_held(
        cls,
        name: str,
        shape: tuple[int, ...],
        index: tuple[int, ...] = (),
        part: Part | None = None,
    ) -> "Place":
        """Returns the place of a piece whose axes stand as the leaf has them."""
        return cls(name, shape, tuple(range(len(shape))), index, part)

    def turned(self) -> "Place":
        """Returns the place in a tensor whose axes are in the opposite order."""
        part = self.part
        if part is not None:
            part = dataclasses.replace(part, axis=len(self.shape) - 1 - part.axis)
        turned = {"shape": self.shape[::-1], "permutation": self.permutation[::-1]}
        return dataclasses.replace(self, **turned, part=part)


def places(
    leaves: Mapping[str, Leaf], naming: Naming, layout: str, *, apart: bool = True
) -> dict[str, tuple[Place, ...]]:
    """Returns the places of the pieces of each leaf, by its path, in the order of its leading axes.

    Args:
        leaves: with `shape`, and `axes` if any of them is stacked: all of a template, by path.
        layout: `TORCH`, `FLAX`, `TF` or `PATHS`.
        apart: for `PATHS`: whether that tree has layers apart.

    Raises:
        CheckpointError: a stacked leaf in no list of layers; parts of a joined tensor that are not
            there, or do not fit it.
    """
    if layout == PATHS:
        return {path: _own_places(path, leaf, naming, apart) for path, leaf in leaves.items()}
    made = {}
    for path, leaf in leaves.items():
        axes = getattr(leaf, "axes", ())
        batch = len([*itertools.takewhile((LAYERS, EXPERTS).__contains__, axes)])
        share = _share(path, leaves, naming)
        shape = (*leaf.shape[:-1], share.size) if share else leaf.shape
        names = layer_paths(share.path if share else path, leaf, naming.lists)
        made[path] = tuple(
            _place(
                name, shape[len(index) :], max(batch - len(index), 0), index, share, naming, layout
            )
            for index, name in names.items()
        )
    return made


def constants(leaves: Mapping[str, Leaf], naming: Naming, layout: str) -> dict[str, Constant]:
    """Returns the constants that stand beside leaves, by their names in a checkpoint."""
    found = {}
    if layout in (TORCH, TF) and naming.constants:
        paths = [p for x in leaves for p in layer_paths(x, leaves[x], naming.lists).values()]
        for constant, path in itertools.product(naming.constants, paths):
            if match := compiled(constant.beside).fullmatch(path):
                found[_torch_name(match.expand(constant.path), PLAIN)] = constant
    return found


def _own_places(path: str, leaf: Leaf, naming: Naming, apart: bool) -> tuple[Place, ...]:
    """Returns the places in a tree of ours, which has the experts of a layer in one leaf."""
    names = layer_paths(path, leaf, {LAYERS: naming.stacks}) if apart else {(): path}
    return tuple(Place.as_held(x, leaf.shape[len(index) :], index) for index, x in names.items())


class _Share(NamedTuple):
    """What a leaf is of one that the checkpoint has: numbers `start` to `stop` of each of `groups`
    runs of its last axis, which has `size`; `path` is the path of that one."""

    path: str
    size: int
    groups: int
    start: int
    stop: int


def _share(path: str, leaves: Mapping[str, Leaf], naming: Naming) -> _Share | None:
    """Returns what a leaf is of a joined one; None for a leaf that stands alone."""
    parents, module, leaf = ("", "", *path.rsplit("/", 2))[-3:]
    for joined in naming.joined:
        above, _, name = joined.file.rpartition("/")
        is_there = not above or compiled(f"(^|/)({above})$").search(parents)
        if module in joined.parts and is_there:
            start = f"{parents}/" if parents else ""
            parts = [f"{start}{part}/{leaf}" for part in joined.parts]
            fused = f"{start}{name}/{leaf}"
            widths = _widths(fused, parts, joined.groups, leaves)
            at = parts.index(path)
            stops = [*itertools.accumulate(widths)]
            size = joined.groups * stops[-1]
            return _Share(fused, size, joined.groups, stops[at] - widths[at], stops[at])
    return None


def _widths(fused: str, parts: Sequence[str], groups: int, leaves: Mapping[str, Leaf]) -> list[int]:
    """Returns the size of each part's share of a run."""
    if lost := [part for part in parts if part not in leaves]:
        raise CheckpointError(
            f"{fused} is joined of {', '.join(parts)}, and the model has no {lost[0]}"
        )
    if len({leaves[part].shape[:-1] for part in parts}) > 1:
        shapes = ", ".join(f"{part} {tuple(leaves[part].shape)}" for part in parts)
        raise CheckpointError(f"{fused} is joined of leaves of different sizes: {shapes}")
    sizes = [leaves[part].shape[-1] for part in parts]
    if odd := [part for part, size in zip(parts, sizes, strict=True) if size % groups]:
        raise CheckpointError(
            f"{fused} is joined in {groups} runs, and the last axis of {odd[0]}, of size "
            f"{leaves[odd[0]].shape[-1]}, does not divide into them"
        )
    return [size // groups for size in sizes]


def _place(
    path: str,
    shape: tuple[int, ...],
    batch: int,
    index: tuple[int, ...],
    share: _Share | None,
    naming: Naming,
    layout: str,
) -> Place:
    """Returns the place of a piece at `path`, the first `batch` of whose axes are no layer's own:
    they number layers or experts, and stay in front."""
    permutation = _permutation(path, len(shape), batch, naming, layout)
    name = flax_name(path, naming) if layout == FLAX else _torch_name(path, naming)
    stored = [0] * len(shape)
    for axis, size in zip(permutation, shape, strict=True):
        stored[axis] = size
    part = Part(permutation[-1], *share[2:]) if share else None  # columns are a leaf's last axis
    return Place(name, tuple(stored), permutation, index, part)


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
        path = compiled(pattern).sub(replacement, path)
    return path


def _torch_name(path: str, naming: Naming) -> str:
    for pattern, replacement in naming.names:
        path = compiled(pattern).sub(replacement, path)
    parents, _, leaf = path.rpartition("/")
    name = f"{parents}/weight" if leaf in _WEIGHTS else path
    return name.strip("/").replace("/", ".")
