"""Differences: two trees or two checkpoints, tensor by tensor, by name, in bounded memory."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..formats import Source, Tensor, open_checkpoint
from ..host.threads import in_threads
from ..multihost import is_spread
from ..tree import measure
from ..tree.paths import check_alive, flatten_arrays, natural
from ..types import Leaf, PyTree
from .worst import worst_difference


@dataclasses.dataclass(frozen=True)
class DiffRow:
    """One name in two trees; what one of them lacks is None.

    Attributes:
        shapes, dtypes: in the first and in the second.
        max_abs: largest |a - b|; exact for integers, else in float32 or what is wider; NaN if
            numbers stand against NaNs. None where no values were compared: shapes that differ,
            abstract leaves.
        max_rel: largest |a - b| / max(|a|, |b|), 0 where both are 0.
        equal: shapes, dtypes and values agree; a NaN equals a NaN.
    """

    path: str
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    dtypes: tuple[str | None, str | None]
    max_abs: float | None
    max_rel: float | None
    equal: bool

    @property
    def verdict(self) -> str:
        """One of "equal", "different", "only in a" and "only in b"."""
        if None in self.shapes:
            return "only in b" if self.shapes[0] is None else "only in a"
        return "equal" if self.equal else "different"


@dataclasses.dataclass(frozen=True)
class Diff:
    """The differences that `diff` found, a row per name; `print` shows them as a table."""

    rows: tuple[DiffRow, ...]

    @property
    def equal(self) -> bool:
        """Whether both have the same names, and all of them are equal."""
        return all(row.equal for row in self.rows)

    @property
    def only_in_a(self) -> tuple[str, ...]:
        """Names that the second lacks."""
        return tuple(row.path for row in self.rows if row.verdict == "only in a")

    @property
    def only_in_b(self) -> tuple[str, ...]:
        """Names that the first lacks."""
        return tuple(row.path for row in self.rows if row.verdict == "only in b")

    def __str__(self) -> str:
        lines = [("path", "shape", "dtype", "max abs", "max rel", "")]
        for row in self.rows:
            values = (_number(row.max_abs), _number(row.max_rel))
            lines.append((row.path, _both(row.shapes), _both(row.dtypes), *values, row.verdict))
        counts = [sum(row.verdict == verdict for row in self.rows) for verdict in _VERDICTS]
        total = ", ".join(f"{n} {verdict}" for n, verdict in zip(counts, _VERDICTS, strict=True))
        return f"{measure.format_table(lines, numeric=(3, 4))}\n{total}"


_VERDICTS = ("equal", "different", "only in a", "only in b")


def diff(a: PyTree, b: PyTree) -> Diff:
    """Compares two trees, or two checkpoints, or one with the other.

    Checkpoints are read chunk by chunk; nothing is held of them, and no model or config is needed:
    tensors are matched by the names that they have there. Abstract leaves are compared by shape
    and dtype alone.

    Args:
        a, b: a tree of arrays; or a `fp.Source`; or what `fp.open_checkpoint` opens, by path.

    Raises:
        CheckpointError: a checkpoint that cannot be read.
        ValueError: a leaf without numbers to compare, a traced one or a text.

    >>> found = diff({"w": np.float32([1, 2])}, {"w": np.float32([1, 4]), "b": np.int8(0)})
    >>> found.equal, found.only_in_b, found.rows[1].max_abs, found.rows[1].max_rel
    (False, ('b',), 2.0, 0.5)
    """
    first, second = _leaves(a), _leaves(b)
    names = sorted({**first, **second}, key=lambda x: getattr(first.get(x), "position", ("", 0)))
    leaves = [*first.values(), *second.values()]
    # Leaves that are spread over processes are compared by all in one order.
    nbytes = 0 if any(map(is_spread, leaves)) else sum(map(measure.nbytes, leaves))
    rows = in_threads(lambda name: _row(name, first.get(name), second.get(name)), names, nbytes)
    return Diff(tuple(sorted(rows, key=lambda row: natural(row.path))))


def _leaves(tree: PyTree) -> Mapping[str, Any]:
    if isinstance(tree, str | os.PathLike):
        tree = open_checkpoint(tree)
    if isinstance(tree, Source):
        return tree.tensors
    leaves = flatten_arrays(tree)
    leaves = {p: x if hasattr(x, "dtype") else np.asarray(x) for p, x in leaves.items()}
    for path, leaf in leaves.items():
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OSUMm":
            raise ValueError(f"{path} is no array of numbers: its dtype is {leaf.dtype}")
    check_alive(leaves)
    return leaves


def _row(path: str, a: Leaf | Tensor | None, b: Leaf | Tensor | None) -> DiffRow:
    (shape_a, dtype_a), (shape_b, dtype_b) = map(_kind, (a, b))
    shapes, dtypes = (shape_a, shape_b), (dtype_a, dtype_b)
    same = shape_a == shape_b and dtype_a == dtype_b
    if a is None or b is None or shape_a != shape_b:
        return DiffRow(path, shapes, dtypes, None, None, False)
    if isinstance(a, jax.ShapeDtypeStruct) or isinstance(b, jax.ShapeDtypeStruct):
        return DiffRow(path, shapes, dtypes, None, None, same)
    if not same and (_is_key(a) or _is_key(b)):
        return DiffRow(path, shapes, dtypes, None, None, same)
    if isinstance(a, Tracer) or isinstance(b, Tracer):
        raise ValueError(f"{path} is traced, and a diff is of numbers; call it outside of jit")
    largest, relative = worst_difference(a, b)
    return DiffRow(path, shapes, dtypes, largest, relative, same and largest == 0)


def _is_key(leaf: Leaf | Tensor) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.extended)


def _kind(leaf: Leaf | Tensor | None) -> tuple[tuple[int, ...] | None, str | None]:
    return (None, None) if leaf is None else (tuple(leaf.shape), str(leaf.dtype))


def _both(pair: tuple[object, object]) -> str:
    there = [str(x) for x in pair if x is not None]
    return " -> ".join(dict.fromkeys(there))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
