"""Traffic: the collectives of passes over params on a mesh, counted from rules and axes."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from jax.sharding import AbstractMesh, Mesh

from ..collectives import bytes_on_ring
from ..mesh import on_mesh, parts_of
from ..presets import Target, names_of
from ..reports import LeafReport, Report

Axes: TypeAlias = tuple[str, ...]
Moved: TypeAlias = tuple[str, Axes, int, int]
"""(kind, axes, how many times, bytes of each)."""


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Collectives of one kind over the same axes of a mesh.

    Attributes:
        kind: as of `Collective`.
        count: how many; of scanned layers each time.
        nbytes: bytes of their results on a device, all together; of a reduce-scatter, operands.
    """

    kind: str
    axes: Axes
    count: int
    nbytes: int

    def bytes_sent(self, mesh: Mesh | AbstractMesh) -> float:
        """Returns the bytes that each device sends, in the best algorithm for a ring."""
        return bytes_on_ring(self.kind, self.nbytes, parts_of(self.axes, mesh))


@dataclasses.dataclass(frozen=True)
class Work:
    """A pass of so many tokens over placed params."""

    placed: Report
    table: Mapping[str, Target]
    batch: int
    length: int
    itemsize: int
    experts_per_token: int

    def over(self, axis: str) -> Axes:
        """Returns the mesh axes, longer than 1, over which an axis of activations is split."""
        mesh = self.placed.mesh
        return tuple(n for n in on_mesh(self.table.get(axis), mesh) if mesh.shape[n] > 1)

    def split(self, axis: str, size: int) -> Axes:
        """Returns those of `over`; () where they do not divide the size."""
        axes = self.over(axis)
        return () if size % parts_of(axes, self.placed.mesh) else axes

    @property
    def rows(self) -> Axes:
        return self.split("batch", self.batch)

    @property
    def tokens(self) -> Axes:
        return self.split("length", self.length)

    def bytes_of(self, features: int) -> int:
        """Returns the bytes on a device of an activation [B, T, `features`]."""
        parts = parts_of(self.rows + self.tokens, self.placed.mesh)
        return self.batch * self.length * features * self.itemsize // parts

    def bytes_read(self, row: LeafReport) -> float:
        """Returns the bytes of a leaf that a device reads in a pass."""
        leaf = _Leaf(row)
        if leaf.is_table and not self.is_tied(row):
            return 0
        used = 1.0
        if "experts" in row.axes:
            count = row.shape[row.axes.index("experts")]
            used = min(1.0, self.batch * self.length * self.experts_per_token / count)
        parts = parts_of(leaf.gathered(self.over("batch")), self.placed.mesh)
        return used * row.bytes_per_device * parts

    def is_tied(self, table: LeafReport) -> bool:
        """Tells whether a table of the vocabulary is the head too: no other leaf has its axis."""
        others = (row for row in self.placed.rows if row.path != table.path)
        return "vocab" in table.axes and not any("vocab" in r.axes for r in others)

    def traffic(self, *, backward: bool) -> tuple[Traffic, ...]:
        """Returns the collectives of a pass, or of both and of the sum of gradients."""
        counts, sizes = Counter(), Counter()
        for kind, axes, times, nbytes in self._all(backward):
            if axes and nbytes:
                counts[kind, axes] += times
                sizes[kind, axes] += times * nbytes
        return tuple(
            Traffic(kind, axes, counts[kind, axes], sizes[kind, axes])
            for kind, axes in sorted(counts)
        )

    def _all(self, backward: bool) -> Iterator[Moved]:
        groups: dict[tuple[str, Axes], tuple[int, int]] = {}
        widths: dict[str, list[int]] = {}
        for row in self.placed.rows:
            leaf = _Leaf(row)
            yield from self._weights(leaf, backward)
            if leaf.is_table:
                yield from self._summed(leaf.split(-2, self.rows), 1, self.bytes_of(row.shape[-1]))
            elif leaf.is_kernel:
                out = self.bytes_of(row.shape[-1]) // parts_of(leaf.split(-1, self.rows), leaf.mesh)
                yield from self._summed(leaf.split(-2, self.rows), leaf.layers, out)
                into = leaf.layers, self.bytes_of(row.shape[-2])
                groups.setdefault((leaf.parent, leaf.split(-1, self.rows)), into)
                self._note_heads(leaf, widths)
                if "experts" in row.axes:
                    groups.setdefault((f"{leaf.parent} experts", leaf.split(-3, ())), into)
        for (parent, axes), (layers, nbytes) in groups.items():
            if parent.endswith(" experts"):
                times = layers * (4 if backward else 2)
                yield "all-to-all", axes, times, nbytes * self.experts_per_token
            elif backward:
                yield from self._summed(axes, layers, nbytes)
        yield from self._length(widths, backward)

    def _weights(self, leaf: "_Leaf", backward: bool) -> Iterator[Moved]:
        """Yields what brings a leaf to where it is computed with, and its gradient back."""
        row, mesh = leaf.row, self.placed.mesh
        gathered = leaf.gathered(self.rows)
        whole = row.bytes_per_device * parts_of(gathered, mesh) // leaf.layers
        if leaf.is_table:
            yield "all-to-all", gathered, 2 if backward else 1, self.bytes_of(row.shape[-1])
            yield "all-gather", gathered, 1, self.batch * self.length * 4
        if not leaf.is_table or self.is_tied(row):
            yield "all-gather", gathered, leaf.layers, whole
            if backward:
                yield "reduce-scatter", gathered, leaf.layers, whole
        if backward:
            rest = tuple(n for n in self.rows + self.tokens if n not in leaf.axes)
            yield "all-reduce", rest, leaf.layers, row.bytes_per_device // leaf.layers

    def _summed(self, axes: Axes, times: int, nbytes: int) -> Iterator[Moved]:
        """Yields the sum of an activation of the residual stream; to where its tokens are, and
        gathered again, if these are split between products."""
        if axes and axes == self.over("residual_length") and not self.tokens:
            yield "reduce-scatter", axes, times, nbytes
            yield "all-gather", axes, times, nbytes
        else:
            yield "all-reduce", axes, times, nbytes

    def _note_heads(self, leaf: "_Leaf", widths: dict[str, list[int]]) -> None:
        """Adds the width of keys and values on a device: of all heads that are made less the
        queries', which are as wide as what goes into the output projection."""
        axes, shape = leaf.row.axes, leaf.row.shape
        noted = widths.setdefault(leaf.parent, [leaf.layers, 0])
        if axes[-1] in ("heads", "kv_heads"):
            noted[1] += shape[-1] // parts_of(leaf.split(-1, self.rows), leaf.mesh)
        elif axes[-2] == "heads":
            noted[1] -= shape[-2] // parts_of(leaf.split(-2, self.rows), leaf.mesh)

    def _length(self, widths: dict[str, list[int]], backward: bool) -> Iterator[Moved]:
        """Yields what moves where the length is split: keys and values, and tokens into dual chunks
        and back."""
        axes, mesh = self.tokens, self.placed.mesh
        for layers, width in widths.values():
            nbytes = self.bytes_of(max(width, 0)) * parts_of(axes, mesh)
            yield "all-gather", axes, layers, nbytes
            if backward:
                yield "reduce-scatter", axes, layers, nbytes
        tables = [row.shape[-1] for row in self.placed.rows if _Leaf(row).is_table]
        half = self.bytes_of(max(tables, default=0)) // 2
        yield "collective-permute", axes, 8 if backward else 4, half


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A leaf, and what its axes say of its part in a pass."""

    row: LeafReport

    @property
    def mesh(self) -> Mesh | AbstractMesh:
        return self.row.sharding.mesh

    @property
    def layers(self) -> int:
        return self.row.shape[0] if self.row.axes[:1] == ("layers",) else 1

    @property
    def parent(self) -> str:
        """The path of the module whose products share an input."""
        return self.row.path.rpartition("/")[0].rpartition("/")[0]

    @property
    def is_table(self) -> bool:
        return self.row.path.endswith("/embedding") or self.row.path == "embedding"

    @property
    def is_kernel(self) -> bool:
        return len(self.row.axes) - (self.row.axes[:1] == ("layers",)) > 1 and not self.is_table

    @property
    def axes(self) -> Axes:
        return tuple(name for entry in self.row.spec for name in names_of(entry))

    def split(self, dim: int, leave: Axes) -> Axes:
        """Returns the mesh axes of a dimension, longer than 1, without those of the batch."""
        names = names_of(self.row.spec[dim]) if len(self.row.spec) >= -dim else ()
        return tuple(name for name in names if self.mesh.shape[name] > 1 and name not in leave)

    def gathered(self, batch: Axes) -> Axes:
        """Returns those axes of the batch over which it is split, but for its experts."""
        dims = zip(self.row.axes, self.row.spec, strict=True)
        names = [n for axis, entry in dims if axis != "experts" for n in names_of(entry)]
        return tuple(name for name in names if name in batch)
