"""Reports: what is known of each leaf on a mesh; printed as a table."""

import dataclasses
import math

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from .axes import PyTree
from .mesh import parts_of, sizes_of
from .presets import names_of
from .uneven import dividing, growing


@dataclasses.dataclass(frozen=True)
class LeafReport:
    """Where one leaf is.

    Attributes:
        shape: in the model.
        axes: the logical name of each dimension.
        rules: those that decided, as "index: rule"; the index is that in the rules.
        sharding: on the mesh.
        stored: its shape on the mesh; larger than `shape` where it is padded.
        notes: what does not divide, and what becomes of it.
        read_mode: how a load reads it, where a load plan says so.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: tuple[str | None, ...]
    rules: tuple[str, ...]
    sharding: NamedSharding
    stored: tuple[int, ...]
    notes: tuple[str, ...] = ()
    read_mode: str | None = None

    @property
    def spec(self) -> PartitionSpec:
        """The mesh axes of each dimension."""
        return self.sharding.spec

    @property
    def shards(self) -> int:
        """How many different parts it has."""
        return math.prod(parts_of(entry, self.sharding.mesh) for entry in self.spec)

    @property
    def replication(self) -> int:
        """How many devices hold each part."""
        return self.sharding.mesh.size // self.shards

    @property
    def bytes_per_device(self) -> int:
        """Bytes of each part."""
        return math.prod(self.stored) * self.dtype.itemsize // self.shards


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """Where all leaves of a template are; `print` it to see a table.

    Attributes:
        rows: one for each leaf, in the order of the tree.
        structure: of the tree.
    """

    mesh: Mesh | AbstractMesh
    rows: tuple[LeafReport, ...]
    structure: jax.tree_util.PyTreeDef

    @property
    def shardings(self) -> PyTree:
        """The tree of `NamedSharding`; of the padded shapes."""
        return self.structure.unflatten(row.sharding for row in self.rows)

    @property
    def unpadded(self) -> PyTree:
        """The tree of `NamedSharding` that leaves have before they are padded: what does not divide
        is split along another dimension, or whole."""
        return self.structure.unflatten(
            row.sharding if row.stored == row.shape else dividing(row.sharding, row.shape)
            for row in self.rows
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on dimensions that do not divide, each with its path."""
        return tuple(f"{row.path}: {note}" for row in self.rows for note in row.notes)

    @property
    def bytes_per_device(self) -> int:
        """Bytes that each device holds."""
        return sum(row.bytes_per_device for row in self.rows)

    def pad(self, params: PyTree) -> PyTree:
        """Returns params with zeros behind the leaves that are padded, each in its sharding; to be
        called in a trace, or of arrays that are on the mesh. What is held as several arrays is not
        padded."""

        def one(row: LeafReport, leaf: object) -> object:
            if not isinstance(leaf, jax.Array) or leaf.shape == row.stored:
                return leaf
            return growing(leaf.shape, row.stored, row.sharding)(leaf)

        return jax.tree.map(one, self.structure.unflatten(self.rows), params)

    def __repr__(self) -> str:
        whole = sum(row.bytes_per_device * row.shards for row in self.rows)
        return "\n".join(
            [
                f"{len(self.rows)} leaves on {self.mesh.size} devices ({sizes_of(self.mesh)}): "
                f"{whole:,} bytes, {self.bytes_per_device:,} on each device",
                *_table([_cells(row) for row in self.rows], right=("bytes a device", "copies")),
                *(f"  {note}" for note in self.notes),
            ]
        )


def _cells(row: LeafReport) -> dict[str, str]:
    """Returns {column: what the table says of a leaf}."""
    padded = "" if row.stored == row.shape else f" -> {_numbers(row.stored)}"
    return {
        "leaf": row.path,
        "shape": _numbers(row.shape) + padded,
        "dtype": row.dtype.name,
        "logical axes": ", ".join(axis or "-" for axis in row.axes),
        "spec": ", ".join("+".join(names_of(entry)) or "-" for entry in row.spec),
        "bytes a device": f"{row.bytes_per_device:,}",
        "copies": str(row.replication),
        "read": row.read_mode or "",
        "rules": "; ".join(row.rules),
    }


def _numbers(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"


def _table(rows: list[dict[str, str]], right: tuple[str, ...]) -> list[str]:
    """Aligns columns, those of `right` to the right; a column without an entry is left out."""
    columns = []
    for name in rows[0] if rows else ():
        cells = [row[name] for row in rows]
        if any(cells):
            width = max(map(len, (name, *cells)))
            align = str.rjust if name in right else str.ljust
            columns.append([align(cell, width) for cell in (name, *cells)])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
