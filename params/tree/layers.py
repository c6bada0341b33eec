"""Layers in paths: the one spelling of which layers of a list a leaf holds.

    layers/3/mlp/kernel      layer 3
    layers/3+6/mlp/kernel    layers 3, 9, 15, ...: as many as the leading axis "layers" is long
    layers/mlp/kernel        all layers, along that axis

A leading axis "experts" runs over a list of experts in the same way, and "heads" or "kv_heads" over
one of heads, where a family has such.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..errors import CheckpointError
from ..types import Shaped

LAYERS, EXPERTS = "layers", "experts"  # logical axes
HEADS = ("heads", "kv_heads")
Lists = Mapping[str, Sequence[str]]
"""Logical axis -> names of the lists that it runs over, as segments of paths."""

_NUMBER = re.compile(r"[0-9]+")
_SEGMENT = re.compile(r"([0-9]{1,9})\+([1-9][0-9]{0,8})")


class Run(NamedTuple):
    """The numbers `first`, `first + step`, ..., `length` of them."""

    first: int
    step: int
    length: int

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.step * self.length, self.step)


def segment(first: int, step: int) -> str:
    """Returns how a path says that its leaf holds layers `first`, `first + step`, ...

    >>> segment(3, 6)
    '3+6'
    """
    return f"{first}+{step}"


def is_stacked(leaf: object) -> bool:
    """Tells whether a template's leaf has a leading layer axis."""
    return getattr(leaf, "axes", ())[:1] == (LAYERS,)


def numbered(path: str, leaf: Shaped, lists: Lists, *, strict: bool = True) -> list[str | Run]:
    """Returns the segments of a leaf's path, and a `Run` where the numbers along each leading axis
    that is stacked belong.

    An axis "experts" that no list is for stays an axis: the checkpoint has all experts in one
    tensor.

    Args:
        leaf: with `shape`, and with `axes` if any of them is stacked.
        strict: raise where the path has no list for an axis "layers"; else its numbers come last.

    Raises:
        CheckpointError: an axis "layers", and no list for it in the path.
    """
    parts: list[str | Run] = [*path.split("/")]
    at = 0
    for axis, size in zip(getattr(leaf, "axes", ()), leaf.shape, strict=False):
        here = _open_list(parts, lists.get(axis, ()), at)
        if here is None and axis == LAYERS and strict:
            expected = " or ".join(map(repr, lists.get(axis, ()))) or "any list of layers"
            raise CheckpointError(f"{path}: a stacked leaf that is not under {expected}")
        if here is None and axis == LAYERS:
            said = (i for i, part in enumerate(parts) if _SEGMENT.fullmatch(str(part)))
            here = next(said, len(parts)) - 1
        if here is None:
            break
        at = here + 2
        parts[here + 1 : at], run = _run(parts[here + 1 : at], size)
        parts.insert(here + 1, run)
    return parts


def layer_paths(path: str, leaf: Shaped, lists: Lists) -> dict[tuple[int, ...], str]:
    """Returns {index into the stacked leading axes: path of that layer alone}; {(): path} of a leaf
    that is not stacked. Arguments and errors as `numbered`."""
    parts = numbered(path, leaf, lists)
    runs = [part for part in parts if isinstance(part, Run)]
    found = {}
    for index in itertools.product(*(range(run.length) for run in runs)):
        numbers = iter(run.numbers[i] for run, i in zip(runs, index, strict=True))
        found[index] = "/".join(p if isinstance(p, str) else str(next(numbers)) for p in parts)
    return found


def layers_of(path: str, leaf: Shaped, stacks: Sequence[str]) -> Sequence[int]:
    """Returns the numbers of the layers that a leaf holds; () if it is in no list of them."""
    parts = numbered(path, leaf, {LAYERS: stacks})
    if runs := [part for part in parts if isinstance(part, Run)]:
        return runs[0].numbers
    after = [b for a, b in itertools.pairwise(parts) if a in stacks and _NUMBER.fullmatch(str(b))]
    return [int(str(after[0]))] if after else []


def list_paths(leaves: Mapping[str, Shaped], stacks: Sequence[str]) -> list[str]:
    """Returns the paths of the lists of layers that leaves are stacked over."""
    found = {}
    for path, leaf in leaves.items():
        if is_stacked(leaf):
            parts = numbered(path, leaf, {LAYERS: stacks})
            at = next(i for i, part in enumerate(parts) if isinstance(part, Run))
            found["/".join(map(str, parts[:at]))] = None
    return list(found)


def apart(path: str, depth: int, stacks: Sequence[str]) -> list[str]:
    """Returns the paths of the layers of a leaf without axes, whose first one is `depth` long and
    of layers if the path is in a list of them; [] if it is in none."""
    if _open_list(path.split("/"), stacks, 0) is None:
        return []
    return [*layer_paths(path, _Stacked((depth,)), {LAYERS: stacks}).values()]


def spellings(names: Iterable[str], stacks: Sequence[str]) -> frozenset[str]:
    """Returns in which ways paths say which layers they hold. Trees with the same ones are stacked
    alike.

    >>> sorted(spellings(["h/0/bias", "h/1/bias", "layers/0+2/bias"], ("h", "layers")))
    ['h/#', 'layers/0+2']
    """
    found = set()
    for name in names:
        for before, after in itertools.pairwise(name.split("/")):
            if before in stacks and _NUMBER.fullmatch(after):
                found.add(f"{before}/#")
            elif before in stacks:
                found.add(f"{before}/{after}" if _SEGMENT.fullmatch(after) else before)
    return frozenset(found)


def below_list(inside: str) -> tuple[int, int, str] | None:
    """Tells what the end of a path after a list's name says: (first layer, step, path in a layer);
    None for a path of one layer.

    >>> below_list("3+6/mlp/kernel"), below_list("mlp/kernel"), below_list("3/mlp/kernel")
    ((3, 6, 'mlp/kernel'), (0, 1, 'mlp/kernel'), None)
    """
    child, _, rest = inside.partition("/")
    if _NUMBER.fullmatch(child):
        return None
    found = _SEGMENT.fullmatch(child)
    return (int(found[1]), int(found[2]), rest) if found else (0, 1, inside)


class _Stacked(NamedTuple):
    shape: tuple[int, ...]
    axes: tuple[str, ...] = (LAYERS,)


def _open_list(parts: Sequence[str | Run], names: Sequence[str], at: int) -> int | None:
    """Finds the first list, from `at` on, that the path does not say one number of."""
    for i in range(at, len(parts)):
        if parts[i] in names and not (i + 1 < len(parts) and _NUMBER.fullmatch(str(parts[i + 1]))):
            return i
    return None


def _run(after: list[str | Run], size: int) -> tuple[list[str | Run], Run]:
    """Returns (what of the segment after a list's name is no number, the numbers)."""
    found = _SEGMENT.fullmatch(str(after[0])) if after else None
    return ([], Run(int(found[1]), int(found[2]), size)) if found else (after, Run(0, 1, size))
