"""Leaves that have an entry for each token: where they are, checked for an edit, and replaced."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TypeVar

from .. import params as fp
from ..calls.known_values import is_deleted
from ..core.model import Model
from ..params.checkpoint.disk_leaf import DiskLeaf
from ..params.tree import resize
from ..params.tree.paths import nearest
from ..params.tree.weights import array_at
from ..params.types import Leaf, Params

M = TypeVar("M", bound=Model)
Leaves = Mapping[str, Leaf]
"""Leaves by name or by path: arrays or abstract."""


@dataclasses.dataclass(frozen=True)
class TokenLeaves:
    """Names the leaves of a model that have an entry for each of its V tokens, by their paths.

    Attributes:
        table: [V, D].
        kernel: [D, V] of the LM head; None without a head, or if the table serves it.
        bias: [V] of the LM head; None without one.
        others: (path, axis of tokens) of leaves that go along with the table, as that of a decoder.
    """

    table: str
    kernel: str | None
    bias: str | None
    others: tuple[tuple[str, int], ...] = ()

    @property
    def axes(self) -> dict[str, int]:
        """{path: the axis of tokens}."""
        axes = {self.table: 0, self.kernel: 1, self.bias: 0, **dict(self.others)}
        return {path: axis for path, axis in axes.items() if path is not None}


def token_leaves(model: Model) -> TokenLeaves:
    """Finds them by what the class declares: `input_embeddings_path`, `output_embeddings_path`, and
    in `tied` the leaves that serve while the head is tied."""
    table = f"{table_module(model)}/embedding"
    head, leaves = model.output_embeddings_path, fp.flatten(model.abstract_params())
    kernel = bias = None
    if head is not None:
        served_by = dict(model.tied)
        kernel = f"{head}/kernel" if f"{head}/kernel" in leaves else None
        biases = (f"{head}/bias", served_by.get(f"{head}/bias"))
        bias = next((path for path in biases if path in leaves), None)
    found = TokenLeaves(table, kernel, bias)
    axes = {path: getattr(leaf, "axes", ()) for path, leaf in leaves.items()}
    others = (p for p, names in axes.items() if "vocab" in names and p not in found.axes)
    return dataclasses.replace(found, others=tuple((p, axes[p].index("vocab")) for p in others))


def table_module(model: Model) -> str:
    """Returns the path of the module that has the table of token embeddings."""
    return model.in_backbone(model.input_embeddings_path)


def check_tree(params: object) -> None:
    """Raises `TypeError` for what is no tree of params."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params is a {type(params).__name__}; expected the tree of params first")


def checked_leaves(model: Model, params: Params) -> Params:
    """Returns the leaves of `token_leaves`, by path.

    Raises:
        ValueError: one that `params` do not have, or have in another shape than `model`.
    """
    check_tree(params)
    template, found = fp.flatten(model.abstract_params()), fp.flatten(params)
    return {path: checked_leaf(found, path, template[path]) for path in token_leaves(model).axes}


def check_shards(own: TokenLeaves, leaves: Leaves, size: int, step: int = 1) -> None:
    """Raises `ValueError` if `size` tokens do not divide over the shards of `leaves`; it names the
    next multiple of `step` that does."""
    shards = {path: resize.shards_along(leaf, own.axes[path]) for path, leaf in leaves.items()}
    bad = next((path for path, count in shards.items() if size % count), None)
    if bad is not None:
        step = math.lcm(step, *shards.values())
        raise ValueError(
            f"{bad}: {size} tokens do not divide over its {shards[bad]} shards; pass "
            f"pad_to_multiple_of={step} to resize_token_embeddings for {round_up(size, step)}"
        )


def round_up(size: int, step: int) -> int:
    """Rounds `size` up to a multiple of `step`."""
    return -(-size // step) * step


def with_vocab_size(model: M, size: int) -> M:
    """Returns the model with a vocabulary of `size` tokens.

    Raises:
        ValueError: a leaf has tokens of its own, which `config.vocab_size` does not count.
    """
    new = model.clone(config=model.config.replace_text(vocab_size=size))
    leaves = fp.flatten(new.abstract_params())
    for path, axis in token_leaves(model).axes.items():
        if leaves[path].shape[axis] != size:
            raise ValueError(
                f"{type(model).__name__}: {path} keeps its {leaves[path].shape[axis]} tokens where "
                f"vocab_size is {size}, since encoder and decoder have vocabularies of their own; "
                "change the leaves yourself, and the sizes by config.replace"
            )
    return new


def replace_leaves(params: Params, leaves: Leaves) -> Params:
    """Returns `params` with the given leaves at their paths."""
    return fp.unflatten(fp.flatten(params) | dict(leaves))


def checked_leaf(found: Leaves, path: str, expected: Leaf) -> Leaf:
    """Returns the leaf at a path; raises as `checked_leaves` if it is not what is expected."""
    if path not in found:
        raise ValueError(f"the params have no leaf {path}{nearest(path, found)}")
    check_shape(path, found[path], expected)
    return editable(path, found[path])


def check_shape(path: str, leaf: object, expected: Leaf) -> None:
    """Raises `ValueError` for a leaf that is no array, or in another shape than the model's."""
    shape = getattr(leaf, "shape", None)
    if shape is None or tuple(shape) != expected.shape:
        got = f"{leaf!r:.80}" if shape is None else f"shape {tuple(shape)}"
        raise ValueError(f"{path}: the params have {got}, the model {expected.shape}")


def editable(path: str, leaf: Leaf | DiskLeaf) -> Leaf:
    """Returns a leaf that is to be cut, extended or copied; one on the disk is read.

    Raises:
        ValueError: it is held as several arrays, or was deleted.
    """
    leaf = array_at(path, leaf)
    if isinstance(leaf, DiskLeaf):
        return leaf.read()
    if is_deleted(leaf):
        raise ValueError(f"{path} was deleted, or donated to a function: use what that returned")
    return leaf
