"""Ties: two tensors of a checkpoint that a config says are one, and whether they are."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from ..formats import Source
from ..formats.bounds import chunks
from ..formats.source import Bounds
from .match import Match, Piece

_CHUNK = 1 << 20  # elements


@dataclasses.dataclass(frozen=True)
class Untied:
    """A leaf whose tensor stands a second time in the checkpoint, and differently.

    Attributes:
        path: the leaf.
        name: its tensor's name.
        other: what stands under the other name.
    """

    path: str
    name: str
    other: Piece

    def __str__(self) -> str:
        return f"{self.other.tensor.name!r} is not {self.name!r}"


def untied(match: Match) -> list[Untied]:
    """Finds the ties that the checkpoint does not keep. Only where it holds both names of a tie are
    the two tensors read, a few MiB at a time, up to the first difference."""
    found = []
    for path, others in match.twice.items():
        (own,) = match.found[path]
        found += [Untied(path, own.tensor.name, x) for x in others if not same(own, x)]
    return found


def same(a: Piece, b: Piece) -> bool:
    """Tells whether two tensors make the same leaf, number by number; NaN equals NaN. If their
    dtypes differ, the wider one is cast to the narrower one first: such a copy is the same too."""
    shape = _shape(a)
    if shape != _shape(b):
        return False
    for file in {span.file for piece in (a, b) for span in piece.tensor.spans}:
        file.start()
    return all(_equal(_read(a, box), _read(b, box)) for box in chunks(shape, _CHUNK))


def copies(
    source: Source, names: tuple[str, ...], found: Mapping[str, tuple[Piece, ...]]
) -> set[str]:
    """Finds those of `names` whose tensor is a copy of a matrix that makes a leaf already. Vectors
    are not looked at: many are all ones, or zeros."""
    used: dict[tuple[tuple[int, ...], np.dtype], list[Piece]] = {}
    for pieces in found.values():
        for piece in (piece for piece in pieces if len(piece.tensor.shape) > 1):
            own = Piece.whole(piece.tensor)
            used.setdefault((own.tensor.shape, own.tensor.dtype), []).append(own)
    return {
        name
        for name in names
        for piece in used.get((source[name].shape, source[name].dtype), ())
        if same(dataclasses.replace(piece, tensor=source[name]), piece)
    }


def _shape(piece: Piece) -> tuple[int, ...]:
    if len(piece.tensor.shape) != len(piece.permutation):
        return piece.tensor.shape
    return tuple(piece.tensor.shape[axis] for axis in piece.permutation)


def _read(piece: Piece, box: Bounds) -> np.ndarray:
    stored = tuple(box[axis] for axis in np.argsort(piece.permutation))
    return piece.tensor.read(stored).transpose(piece.permutation)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype != b.dtype:
        narrow = min(a.dtype, b.dtype, key=lambda dtype: (dtype.itemsize, str(dtype)))
        with np.errstate(all="ignore"):
            a, b = a.astype(narrow), b.astype(narrow)
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        return bool(np.array_equal(a, b))
    return bool(np.all((a == b) | (np.isnan(a) & np.isnan(b))))
