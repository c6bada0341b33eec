"""Collectives of a compiled program: which there are, over which axes of the mesh, of what size."""

import dataclasses
import math
import re
from collections.abc import Iterable

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh

from .mesh import check_mesh

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)

_LINE = re.compile(rf"= (?P<shape>.*?) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\((?P<rest>.*)")
_INSTRUCTION = re.compile(r"[\w.-]+ = \(?[a-z]+[0-9a-z]*\[")  # %a = f32[
_COMMENT = re.compile(r"/\*.*?\*/")  # /*index=5*/ in a tuple of shapes
_SHAPE = re.compile(r"\b([a-z]+[0-9a-z]*)\[([0-9,]*)\]")
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=(\{\{[0-9,{}]*\}\}|\{\})")
_IOTA = re.compile(r"replica_groups=\[([0-9,]+)\]<=\[([0-9,]+)\](?:T\(([0-9,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*(?:\[[^\]]*\][^\]]*)*)\] ?\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program's text; in a loop it runs many times.

    Attributes:
        kind: of `KINDS`; asynchronous ones have the name of the others.
        shapes: (dtype, shape) of each result: several where XLA combined collectives.
        groups: ids of the devices that take part together, in the program's numbers; of a permute,
            the pairs.
        axes: of the mesh, along which the members of a group differ.
    """

    kind: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    groups: tuple[tuple[int, ...], ...]
    axes: tuple[str, ...] = ()

    @property
    def group_size(self) -> int:
        """Devices in a group."""
        return max(map(len, self.groups), default=1)

    @property
    def nbytes(self) -> int:
        """Bytes of the results on a device."""
        return int(sum(math.prod(shape) * _width(dtype) for dtype, shape in self.shapes))

    @property
    def bytes_sent(self) -> float:
        """Bytes that each device sends, in the best algorithm for a ring."""
        operands = self.nbytes * (self.group_size if self.kind == "reduce-scatter" else 1)
        return bytes_on_ring(self.kind, operands, self.group_size)

    def __str__(self) -> str:
        shapes = ", ".join(f"{dtype}[{','.join(map(str, s))}]" for dtype, s in self.shapes)
        over = "+".join(self.axes) or f"groups of {self.group_size}"
        return f"{self.kind} over {over}: {shapes}"


def bytes_on_ring(kind: str, nbytes: int, devices: int) -> float:
    """Returns the bytes that each device of a ring sends, in the best algorithm for one.

    Args:
        nbytes: of the results on a device; of a reduce-scatter, of its operands.
    """
    if kind == "collective-permute":
        return nbytes
    return (2 if kind == "all-reduce" else 1) * nbytes * (devices - 1) / devices


def collectives(
    compiled: jax.stages.Compiled | str, mesh: Mesh | AbstractMesh | None = None
) -> tuple[Collective, ...]:
    """Reads the collectives off a compiled program, in the order of its text.

    Args:
        compiled: what `jax.jit(f).lower(...).compile()` returns, or the text of its HLO.
        mesh: that of the program, by which groups of devices are named.

    Raises:
        TypeError: what is not compiled.
        ValueError: a text that is not HLO, or of devices that the mesh has not.

    >>> line = "%a = f32[8]{0} all-reduce-start(%b), replica_groups={{0,1},{2,3}}, to_apply=%sum"
    >>> collectives(line)
    (Collective(kind='all-reduce', shapes=(('f32', (8,)),), groups=((0, 1), (2, 3)), axes=()),)
    """
    text = compiled.as_text() if isinstance(compiled, jax.stages.Compiled) else compiled
    if not isinstance(text, str):
        raise TypeError(
            f"compiled is a {type(compiled).__name__}; expected what "
            "jax.jit(f).lower(...).compile() returns, or its text"
        )
    if "stablehlo." in text:
        raise ValueError("the text is StableHLO, which has no collectives yet: compile it first")
    if "HloModule" not in text and not _INSTRUCTION.search(text):
        raise ValueError(f"no instruction of HLO is in the text {text!r:.80}")
    mesh = None if mesh is None else check_mesh(mesh, abstract=True)
    lines = _COMMENT.sub("", text).splitlines()
    return tuple(_collective(match, mesh) for match in map(_LINE.search, lines) if match)


def _collective(match: re.Match[str], mesh: Mesh | AbstractMesh | None) -> Collective:
    kind, groups = match["kind"], _groups(match["rest"])
    if not groups and mesh is not None and kind != "collective-permute":
        groups = (tuple(range(mesh.size)),)  # {}: all devices
    shapes = tuple(
        (dtype, tuple(int(size) for size in sizes.split(",") if size))
        for dtype, sizes in _SHAPE.findall(match["shape"])
    )
    if match["start"] and kind == "all-gather":  # (operands, results)
        shapes = shapes[len(shapes) // 2 :]
    elif match["start"] and kind == "collective-permute":  # (operand, result, and two numbers)
        shapes = shapes[1:2]
    axes = () if mesh is None else _axes(groups, tuple(mesh.shape.items()))
    return Collective(kind, shapes, groups, axes)


def _groups(text: str) -> tuple[tuple[int, ...], ...]:
    if found := _LISTED.search(text):
        listed = re.findall(r"\{([0-9,]+)\}", found[1])
        return tuple(tuple(map(int, group.split(","))) for group in listed)
    if found := _IOTA.search(text):
        return _rows(_iota(found[2], found[3]).reshape(_ints(found[1])))
    if found := _MESH.search(text):
        return _mesh_groups(found[1], found[2])
    return ()


def _mesh_groups(described: str, members: str) -> tuple[tuple[int, ...], ...]:
    """Reads `mesh['a'=4,'b'=2] {'b'}`: a mesh of the program's own, and the axes of a group."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=([0-9]+)", described)}
    ids = np.arange(math.prod(sizes.values()))
    if order := re.search(r"device_ids=\(\[([0-9,]+)\](?:T\(([0-9,]+)\))?\)", described):
        ids = _iota(order[1], order[2])
    ids, names = ids.reshape(tuple(sizes.values())), list(sizes)
    inside = [names.index(name) for name in re.findall(r"'([^']+)'", members)]
    outside = [index for index in range(len(names)) if index not in inside]
    count = math.prod(ids.shape[index] for index in inside)
    return _rows(ids.transpose(*outside, *inside).reshape(-1, count))


def _axes(groups: Iterable[tuple[int, ...]], sizes: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Returns the axes of a mesh along which members of a group differ."""
    shape = tuple(size for _, size in sizes)
    if any(max(group) >= math.prod(shape) for group in groups):
        raise ValueError(f"the program is of more devices than the mesh has, {dict(sizes)}")
    places = [np.stack(np.unravel_index(np.array(group), shape)) for group in groups]
    return tuple(
        name
        for index, (name, _) in enumerate(sizes)
        if any((place[index] != place[index][0]).any() for place in places)
    )


def summary(found: Iterable[Collective]) -> dict[tuple[str, tuple[str, ...]], tuple[int, int]]:
    """Returns {(kind, axes): (how many, bytes of their results on a device)}."""
    sizes: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for each in found:
        sizes.setdefault((each.kind, each.axes), []).append(each.nbytes)
    return {name: (len(sizes[name]), sum(sizes[name])) for name in sorted(sizes)}


def _iota(shape: str, order: str | None) -> np.ndarray:
    """Reads `4,2` and `1,0`: 0, 1, 2, ... in a shape, whose dimensions are then transposed."""
    ids = np.arange(math.prod(_ints(shape))).reshape(_ints(shape))
    return ids.transpose(_ints(order)) if order else ids


def _rows(ids: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(i) for i in row) for row in ids)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _width(dtype: str) -> float:
    """Returns the bytes of an element: of "bf16" 2, of "s4" half of one."""
    bits = re.search(r"[0-9]+", dtype)
    return 1 if bits is None else int(bits[0]) / 8
