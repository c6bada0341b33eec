"""Embeddings: the table of tokens and the head over the vocabulary, got, set, tied and untied.

Nothing is changed in place. What an edit makes keeps the dtype, the kind of array and the sharding
of what it replaces; leaves that it does not name are the same objects.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import jax.numpy as jnp

from .. import params as fp
from ..core.model import Model
from ..params.tree import resize
from ..params.tree.paths import nearest

M = TypeVar("M", bound=Model)


@dataclasses.dataclass(frozen=True)
class TokenLeaves:
    """Paths of a model's leaves that have an entry for each of its V tokens.

    Attributes:
        table: [V, D].
        kernel: [D, V] of the LM head; None without a head, or if the table serves it.
        bias: [V] of the LM head; None without one.
    """

    table: str
    kernel: str | None
    bias: str | None

    @property
    def axes(self) -> dict[str, int]:
        """{path: the axis of tokens}."""
        axes = {self.table: 0, self.kernel: 1, self.bias: 0}
        return {path: axis for path, axis in axes.items() if path is not None}


def token_leaves(model: Model) -> TokenLeaves:
    """Where a model's tokens are, by what its class declares: `input_embeddings_path`,
    `output_embeddings_path`, and in `tied` what stands elsewhere while the head is tied."""
    table = f"{_table_module(model)}/embedding"
    head = model.output_embeddings_path
    if head is None:
        return TokenLeaves(table, None, None)
    leaves, served_by = fp.flatten(model.abstract_params()), dict(model.tied)
    kernel, bias = f"{head}/kernel", f"{head}/bias"
    biases = (path for path in (bias, served_by.get(bias)) if path in leaves)
    return TokenLeaves(table, kernel if kernel in leaves else None, next(biases, None))


# --- getting ---


def get_input_embeddings(model: Model, params: Any) -> dict[str, Any]:
    """The table of token embeddings: {"embedding": [V, D]}."""
    return _subtree(params, _table_module(model))


def get_output_embeddings(model: Model, params: Any) -> dict[str, Any] | None:
    """What makes logits of hidden states: {"kernel": [D, V]}, with its "bias" [V] if it has one;
    the table of `get_input_embeddings` if they are tied; None without an LM head."""
    head = model.output_embeddings_path
    if head is None:
        return None
    return _subtree(params, head if token_leaves(model).kernel else _table_module(model))


def get_lm_head(model: Model, params: Any) -> dict[str, Any] | None:
    """All between the backbone and the logits of tokens, such as BERT's transform; the table where
    it does that alone; None without an LM head."""
    path = model.lm_head_path
    if path is None or path == model.output_embeddings_path:
        return get_output_embeddings(model, params)
    return _subtree(params, path)


def get_output_layer_with_bias(model: Model, params: Any) -> dict[str, Any] | None:
    """The subtree that holds the bias of the LM head; None without a bias."""
    path = get_prefix_bias_name(model)
    return None if path is None else _subtree(params, path)


def get_prefix_bias_name(model: Model) -> str | None:
    """The path of `get_output_layer_with_bias`: "cls/predictions"; None without a bias."""
    path = token_leaves(model).bias
    return None if path is None else path.rpartition("/")[0]


def get_bias(model: Model, params: Any) -> dict[str, Any] | None:
    """{"bias": [V]} of the LM head; None without a bias."""
    layer = get_output_layer_with_bias(model, params)
    return None if layer is None else {"bias": layer["bias"]}


# --- setting ---


def set_input_embeddings(model: M, params: Any, value: Mapping[str, Any]) -> tuple[M, Any]:
    """Puts {"embedding": [V, D]} in the place of the table -> `(model, params)`.

    V may be another than before: `config.vocab_size` follows, a tied head is of the new table, and
    its bias is cut, or padded with zeros.

    Raises:
        ValueError: another D, or a V that is not that of an untied head.
    """
    own, leaves = token_leaves(model), checked_leaves(model, params)
    table = leaves[own.table]
    new = _given(value, {"embedding": (None, table.shape[1])}, own.table)["embedding"]
    size = new.shape[0]
    if size != table.shape[0] and own.kernel is not None:
        raise ValueError(
            f"{own.table}: the value has {size} tokens, the untied head {own.kernel} has "
            f"{table.shape[0]}; resize_token_embeddings to {size} first, or tie_weights"
        )
    check_shards(own, leaves, size)
    made = {own.table: resize.like(new, table)}
    if own.bias is not None and size != table.shape[0]:
        made[own.bias] = resize.resized(leaves[own.bias], size, 0, resize.zeros)
    return of_size(model, size), replaced(params, made)


def set_output_embeddings(model: M, params: Any, value: Mapping[str, Any]) -> tuple[M, Any]:
    """Puts {"kernel": [D, V]} in the place of the LM head's -> `(model, params)`.

    A tied head is untied by it, in the config too, and the table stays what it was. A "bias" [V]
    may be given where the head has one; else that stays.

    Raises:
        ValueError: no LM head, another shape, or a bias where there is none.
    """
    model, params = untie_weights(model, params)
    own, leaves = token_leaves(model), checked_leaves(model, params)
    paths = {path.rpartition("/")[2]: path for path in leaves if path != own.table}
    shapes = {name: leaves[path].shape for name, path in paths.items()}
    given = _given(value, shapes, f"{type(model).__name__}'s LM head", optional=("bias",))
    made = {paths[name]: resize.like(new, leaves[paths[name]]) for name, new in given.items()}
    return model, replaced(params, made)


def set_bias(model: Model, params: Any, value: Mapping[str, Any]) -> Any:
    """Puts {"bias": [V]} in the place of the LM head's -> params. It is `resize_token_embeddings`
    that changes its length.

    Raises:
        ValueError: a head without a bias, or another shape.
    """
    path, leaves = token_leaves(model).bias, checked_leaves(model, params)
    if path is None:
        raise ValueError(f"{type(model).__name__} has no LM head with a bias")
    new = _given(value, {"bias": leaves[path].shape}, path)["bias"]
    return replaced(params, {path: resize.like(new, leaves[path])})


# --- tying ---


def tie_weights(model: M, params: Any) -> tuple[M, Any]:
    """`(model, params)` with the table for a head, whose own kernel is dropped: also from the tree
    of a tied model that has one all the same.

    Raises:
        ValueError: no LM head.
    """
    return _retied(model, params, True)


def untie_weights(model: M, params: Any) -> tuple[M, Any]:
    """`(model, params)` with a kernel of the head's own, at first the transposed table.

    Raises:
        ValueError: no LM head.
    """
    return _retied(model, params, False)


def _retied(model: M, params: Any, tied: bool) -> tuple[M, Any]:
    """What only one of the two trees has moves to where `model.tied` says that it serves."""
    if model.output_embeddings_path is None:
        raise ValueError(f"{type(model).__name__} has no LM head to tie, untie or set")
    new, other = (
        model.clone(config=model.config.replace(tie_word_embeddings=t)) for t in (tied, not tied)
    )
    wanted, unwanted = fp.flatten(new.abstract_params()), fp.flatten(other.abstract_params())
    found, served_by = fp.flatten(params), dict(model.tied)
    leaves = {path: x for path, x in found.items() if path in wanted or path not in unwanted}
    for path in wanted.keys() - unwanted.keys() - found.keys():
        serving = unwanted[served_by[path]]
        leaf = _checked(found, served_by[path], serving)
        swapped = wanted[path].axes != serving.axes
        leaves[path] = resize.transposed(leaf) if swapped else leaf
    return new, fp.unflatten(leaves)


# --- what edits of the vocabulary share ---


def checked_leaves(model: Model, params: Any) -> dict[str, Any]:
    """The leaves of `token_leaves`, by path.

    Raises:
        ValueError: one that `params` do not have, or have in another shape than `model`.
    """
    template, found = fp.flatten(model.abstract_params()), fp.flatten(params)
    return {path: _checked(found, path, template[path]) for path in token_leaves(model).axes}


def check_shards(own: TokenLeaves, leaves: Mapping[str, Any], size: int, step: int = 1) -> None:
    """Raises `ValueError` if `size` tokens do not divide over the shards that `leaves` lie in, with
    the next multiple of `step` that does."""
    shards = {path: resize.shards_along(leaf, own.axes[path]) for path, leaf in leaves.items()}
    bad = next((path for path, count in shards.items() if size % count), None)
    if bad is not None:
        step = math.lcm(step, *shards.values())
        raise ValueError(
            f"{bad}: {size} tokens do not divide over its {shards[bad]} shards; pass "
            f"pad_to_multiple_of={step} to resize_token_embeddings for {round_up(size, step)}"
        )


def round_up(size: int, step: int) -> int:
    """The least multiple of `step` that is not below `size`."""
    return -(-size // step) * step


def of_size(model: M, size: int) -> M:
    """The model with `size` tokens."""
    return model.clone(config=model.config.replace(vocab_size=size))


def replaced(params: Any, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with other leaves at some of its paths."""
    return fp.unflatten(fp.flatten(params) | dict(leaves))


def _table_module(model: Model) -> str:
    return model.in_backbone(model.input_embeddings_path)


def _subtree(params: Any, path: str) -> Any:
    node = params
    for name in path.split("/"):
        if not isinstance(node, Mapping) or name not in node:
            raise ValueError(f"the params have no {path}{nearest(path, fp.flatten(params))}")
        node = node[name]
    return node


def _checked(found: Mapping[str, Any], path: str, expected: Any) -> Any:
    if path not in found:
        raise ValueError(f"the params have no leaf {path}{nearest(path, found)}")
    if tuple(found[path].shape) != expected.shape:
        raise ValueError(
            f"{path}: the params have shape {tuple(found[path].shape)}, the model {expected.shape}"
        )
    return found[path]


def _given(
    value: Any,
    shapes: dict[str, tuple[int | None, ...]],
    where: str,
    optional: tuple[str, ...] = (),
) -> Mapping[str, Any]:
    """`value` if it is {name: floats} of `shapes`, in which None stands for any size."""

    def fits(name: str, x: Any) -> bool:
        shape = getattr(x, "shape", ())
        sizes = zip(shape, shapes[name], strict=False)
        same = len(shape) == len(shapes[name]) and all(n in (m, None) for m, n in sizes)
        return same and jnp.issubdtype(x.dtype, jnp.floating)

    named = isinstance(value, Mapping) and {*shapes} - {*optional} <= value.keys() <= {*shapes}
    if named and all(fits(name, x) for name, x in value.items()):
        return value
    got = {k: _kind(x) for k, x in value.items()} if isinstance(value, Mapping) else _kind(value)
    raise ValueError(f"{where}: expected {{name: shape}} of floats {shapes}, got {got}")


def _kind(x: Any) -> str:
    return f"{x.dtype} {tuple(x.shape)}" if hasattr(x, "shape") else type(x).__name__
