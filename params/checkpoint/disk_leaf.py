"""Leaves that stay in files: each is read when it is computed with, and not kept."""

import dataclasses
import math
import os
import tempfile
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ..errors import CheckpointError
from ..formats import Tensor
from ..formats.files import LocalFile, Span
from ..host.copies import contiguous, copy, empty
from ..types import Concrete, PyTree
from .leaf_plan import LeafPlan


class Recipe(NamedTuple):
    """What makes a leaf of its tensor: `tensor.transpose(permutation).astype(dtype)`. It is done by
    the program that computes with the leaf, where it costs nothing or little."""

    permutation: tuple[int, ...]
    dtype: np.dtype

    def made(self, tensor: jax.Array) -> jax.Array:
        """Returns the leaf of a tensor, both arrays of JAX."""
        return jnp.transpose(tensor, self.permutation).astype(self.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class DiskLeaf:
    """A leaf of a tree of params that is in a file.

    `read()`, `np.asarray` and `jnp.asarray` give it as an array. `model.apply` and
    `model.generate` run a tree with such leaves, which they read layer by layer. Other programs of
    JAX refuse them by this class's name.

    Attributes:
        tensor: where it is, in the file's dtype and layout.
        recipe: what makes the leaf of it.
        device: that computes with it.
    """

    tensor: Tensor
    recipe: Recipe
    device: jax.Device
    place = "disk"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape[axis] for axis in self.recipe.permutation)

    @property
    def dtype(self) -> np.dtype:
        return self.recipe.dtype

    @property
    def ndim(self) -> int:
        return len(self.tensor.shape)

    @property
    def size(self) -> int:
        return math.prod(self.tensor.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the leaf's dtype; `tensor.nbytes` are those in the file."""
        return self.size * self.dtype.itemsize

    @property
    def paths(self) -> list[str]:
        """The files that it is in."""
        return [span.file.path for span in self.tensor.spans]

    def read(self) -> np.ndarray:
        """Reads the leaf.

        Raises:
            CheckpointError: a file that changed, or cannot be read any more.
        """
        array = empty(self.shape, self.dtype)
        copy(self.tensor.read().transpose(self.recipe.permutation), array)
        return array

    def astype(self, dtype: np.dtype) -> "DiskLeaf":
        """Returns the leaf in another dtype; nothing is read."""
        recipe = self.recipe._replace(dtype=np.dtype(dtype))
        return dataclasses.replace(self, recipe=recipe)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        array = self.read()
        return array if dtype is None else array.astype(dtype)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") or name in ("tensor", "recipe", "device"):  # as a copy is made
            raise AttributeError(name)
        raise AttributeError(
            f"{self!r} has no {name!r}: it is in a file, and leaf.read() gives it as an array"
        )

    def __repr__(self) -> str:
        where = os.path.basename(self.paths[0]) if self.tensor.spans else "?"
        return f"DiskLeaf({self.dtype}{list(self.shape)} in {where})"


def stays_readable(plan: LeafPlan) -> bool:
    """Tells whether a leaf can be read from its checkpoint again and again: one tensor, whose bytes
    are in files of this machine as they are, transposed perhaps."""
    (piece, *others) = plan.pieces
    if others or piece.index or plan.stored == np.bool_:
        return False
    return bool(piece.tensor.spans) and all(span.file.is_kept for span in piece.tensor.spans)


def in_place(plan: LeafPlan, device: jax.Device) -> DiskLeaf:
    """Returns the leaf that is read from its checkpoint, which `stays_readable`."""
    (piece,) = plan.pieces
    return DiskLeaf(piece.tensor, Recipe(piece.permutation, plan.dtype), device)


def written(
    folder: str | os.PathLike,
    leaves: Iterable[tuple[str, Concrete | LeafPlan]],
    device: jax.Device,
) -> dict[str, DiskLeaf]:
    """Writes arrays into one new file of a folder, which is made if absent -> {path: its leaf}. The
    file is the caller's to remove once nothing of it is needed.

    Args:
        leaves: (path, an array, or a `LeafPlan`, which is read), one in memory at a time.

    Raises:
        CheckpointError: the disk's own error; nothing of the file stays then.
    """
    places: dict[str, tuple[int, tuple[int, ...], np.dtype]] = {}
    name = None
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor, name = tempfile.mkstemp(".raw", "offloaded-", folder)
        with open(descriptor, "wb") as file:
            for path, leaf in leaves:
                array = leaf.read() if isinstance(leaf, LeafPlan) else np.asarray(leaf)
                places[path] = (_append(file, contiguous(array)), array.shape, array.dtype)
            file.flush()
            os.fsync(file.fileno())
        opened = LocalFile(name)
    except BaseException as error:
        if name is not None:
            os.unlink(name)
        if isinstance(error, OSError):
            reason = f"{error.strerror}; nothing was kept of what was offloaded"
            raise CheckpointError(f"{error.filename or name or folder}: {reason}") from error
        raise
    made = {}
    for path, (start, shape, dtype) in places.items():
        span = Span(opened, start, math.prod(shape) * dtype.itemsize)
        recipe = Recipe(tuple(range(len(shape))), dtype)
        made[path] = DiskLeaf(Tensor(path, shape, dtype, (span,)), recipe, device)
    return made


def check_target(params: PyTree, folder: str | os.PathLike) -> None:
    """Refuses to write into a folder whose files leaves are read from: what replaces them would be
    put together of what it replaces.

    Raises:
        CheckpointError: with the file.
    """
    there = os.path.realpath(folder)
    for leaf in jax.tree.leaves(params):
        for path in leaf.paths if isinstance(leaf, DiskLeaf) else ():
            if os.path.dirname(os.path.realpath(path)) == there:
                raise CheckpointError(
                    f"{path}: leaves of these params are still read from this file; save into "
                    "another folder; nothing was written"
                )


def _append(file: BinaryIO, array: np.ndarray) -> int:
    """Writes an array at the next multiple of 64 bytes -> where it begins."""
    file.write(bytes(-file.tell() % 64))
    start = file.tell()
    file.write(array.reshape(-1).view(np.uint8).data)
    return start
