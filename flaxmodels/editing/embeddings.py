"""Embeddings: the token table and the LM head, got, set, tied and untied.

Nothing is changed in place. A new leaf has the dtype, the kind of array and the sharding of the one
that it replaces; the other leaves are the same objects.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from .. import params as fp
from ..core.model import Model
from ..params.tree import resize
from ..params.tree.paths import nearest
from ..params.types import Leaf, Params, PyTree
from .token_leaves import (
    Leaves,
    M,
    check_shards,
    check_tree,
    checked_leaf,
    checked_leaves,
    replace_leaves,
    table_module,
    token_leaves,
    with_vocab_size,
)

# --- getting ---


def get_input_embeddings(model: Model, params: Params) -> Params:
    """Returns the table of token embeddings: {"embedding": [V, D]}."""
    return _subtree(params, table_module(model))


def get_output_embeddings(model: Model, params: Params) -> Params | None:
    """Returns the layer that makes logits: {"kernel": [D, V]}, and its "bias" [V] if there is one;
    the table of `get_input_embeddings` if tied; None without an LM head."""
    head = model.output_embeddings_path
    if head is None:
        return None
    return _subtree(params, head if token_leaves(model).kernel else table_module(model))


def get_lm_head(model: Model, params: Params) -> Params | None:
    """Returns all that is between the backbone and the logits of tokens, such as BERT's transform;
    the table if there is nothing else; None without an LM head."""
    path = model.lm_head_path
    if path is None or path == model.output_embeddings_path:
        return get_output_embeddings(model, params)
    return _subtree(params, path)


def get_output_layer_with_bias(model: Model, params: Params) -> Params | None:
    """Returns the subtree that holds the bias of the LM head; None without a bias."""
    path = get_prefix_bias_name(model)
    return None if path is None else _subtree(params, path)


def get_prefix_bias_name(model: Model) -> str | None:
    """Returns the path of `get_output_layer_with_bias`, "cls/predictions"; None without a bias."""
    path = token_leaves(model).bias
    return None if path is None else path.rpartition("/")[0]


def get_bias(model: Model, params: Params) -> Params | None:
    """Returns {"bias": [V]} of the LM head; None without a bias."""
    layer = get_output_layer_with_bias(model, params)
    return None if layer is None else {"bias": layer["bias"]}


# --- setting ---


def set_input_embeddings(model: M, params: Params, value: Leaves) -> tuple[M, Params]:
    """Replaces the table by {"embedding": [V, D]}; returns `(model, params)`.

    With another V than before `config.vocab_size` changes too, a tied head uses the new table, and
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
    edited = {own.table: _in_place_of(new, table, own.table)}
    if size != table.shape[0]:
        others = {path: leaf for path, leaf in leaves.items() if path != own.table}
        edited |= resize.resized(others, size, own.axes)
    return with_vocab_size(model, size), replace_leaves(params, edited)


def set_output_embeddings(model: M, params: Params, value: Leaves) -> tuple[M, Params]:
    """Replaces the kernel of the LM head by {"kernel": [D, V]}; returns `(model, params)`.

    It unties a tied head, in the config too, and does not change the table. A "bias" [V] may be
    given where the head has one; otherwise the old bias stays.

    Raises:
        ValueError: no LM head, another shape, or a bias where there is none.
    """
    model, params = untie_weights(model, params)
    own, leaves = token_leaves(model), checked_leaves(model, params)
    paths = {path.rpartition("/")[2]: path for path in leaves if path != own.table}
    shapes = {name: leaves[path].shape for name, path in paths.items()}
    given = _given(value, shapes, f"{type(model).__name__}'s LM head", optional=("bias",))
    edited = {
        paths[name]: _in_place_of(new, leaves[paths[name]], paths[name])
        for name, new in given.items()
    }
    return model, replace_leaves(params, edited)


def set_bias(model: Model, params: Params, value: Leaves) -> Params:
    """Replaces the bias of the LM head by {"bias": [V]}; returns params. To change its length, see
    `resize_token_embeddings`.

    Raises:
        ValueError: a head without a bias, or another shape.
    """
    path, leaves = token_leaves(model).bias, checked_leaves(model, params)
    if path is None:
        raise ValueError(f"{type(model).__name__} has no LM head with a bias")
    new = _given(value, {"bias": leaves[path].shape}, path)["bias"]
    return replace_leaves(params, {path: _in_place_of(new, leaves[path], path)})


# --- tying ---


def tie_weights(model: M, params: Params) -> tuple[M, Params]:
    """Returns `(model, params)` with the table as head. The head's own kernel is dropped, also from
    the tree of a tied model that has one.

    Raises:
        ValueError: no LM head.
    """
    return _set_tied(model, params, True)


def untie_weights(model: M, params: Params) -> tuple[M, Params]:
    """Returns `(model, params)` whose head has a kernel of its own, at first the transposed table.

    Raises:
        ValueError: no LM head.
    """
    return _set_tied(model, params, False)


def _set_tied(model: M, params: Params, tied: bool) -> tuple[M, Params]:
    """Builds the tree of the tied or untied model. A leaf that only this tree has is copied from
    the leaf that served in its place, as `model.tied` declares."""
    if model.output_embeddings_path is None:
        raise ValueError(f"{type(model).__name__} has no LM head to tie, untie or set")
    new, old = (
        model.clone(config=model.config.replace(tie_word_embeddings=t)) for t in (tied, not tied)
    )
    check_tree(params)
    wanted, unwanted = fp.flatten(new.abstract_params()), fp.flatten(old.abstract_params())
    found, served_by = fp.flatten(params), dict(model.tied)
    leaves = {path: x for path, x in found.items() if path in wanted or path not in unwanted}
    for path in wanted.keys() - unwanted.keys() - found.keys():
        template = unwanted[served_by[path]]
        leaf = checked_leaf(found, served_by[path], template)
        swapped = wanted[path].axes != template.axes  # a kernel [D, V] and the table [V, D]
        leaves[path] = resize.transposed(leaf) if swapped else leaf
    for path in sorted(wanted.keys() - leaves.keys()):
        raise ValueError(f"the params have no leaf {path}{nearest(path, found)}")
    return new, fp.unflatten(leaves)


def _subtree(params: Params, path: str) -> PyTree:
    check_tree(params)
    node = params
    for name in path.split("/"):
        if not isinstance(node, Mapping) or name not in node:
            raise ValueError(f"the params have no {path}{nearest(path, fp.flatten(params))}")
        node = node[name]
    return node


def _in_place_of(new: Leaf, leaf: Leaf, path: str) -> Leaf:
    if isinstance(new, jax.ShapeDtypeStruct) and not isinstance(leaf, jax.ShapeDtypeStruct):
        raise ValueError(f"{path}: the value is abstract, a shape without numbers")
    return resize.like(new, leaf)


def _given(
    value: object,
    shapes: dict[str, tuple[int | None, ...]],
    location: str,
    optional: tuple[str, ...] = (),
) -> Leaves:
    """Returns `value` if it is {name: floats} of `shapes`, in which None stands for any size."""

    def fits(name: str, x: object) -> bool:
        shape = getattr(x, "shape", ())
        sizes = zip(shape, shapes[name], strict=False)
        same = len(shape) == len(shapes[name]) and all(n in (m, None) for m, n in sizes)
        return same and jnp.issubdtype(getattr(x, "dtype", object), jnp.floating)

    if not isinstance(value, Mapping):
        got = _kind(value)
    elif {*shapes} - {*optional} <= value.keys() <= {*shapes} and all(
        fits(name, x) for name, x in value.items()
    ):
        return value
    else:
        got = {name: _kind(x) for name, x in value.items()}
    raise ValueError(f"{location}: expected {{name: shape}} of floats {shapes}, got {got}")


def _kind(x: object) -> str:
    shape = getattr(x, "shape", None)
    return type(x).__name__ if shape is None else f"{getattr(x, 'dtype', '')} {tuple(shape)}"
