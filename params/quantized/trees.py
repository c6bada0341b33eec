"""Quantising trees of params, and making them dense again."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import KeyPath, tree_map_with_path

from ..tree.masks import Mask, as_mask
from ..tree.paths import path_of
from ..tree.weights import Weight, is_weight
from ..types import PyTree
from .make import form_of
from .make import quantize as quantize_array
from .qtensor import Form, QTensor


def quantize(params: PyTree, scheme: str, mask: Mask = None) -> PyTree:
    """Quantises the leaves that `mask` selects, each into a `QTensor` of the same logical shape and
    dtype, which a model takes as it takes arrays; abstract leaves become abstract ones.

    Kernels are quantised along their input axis and stored (out, in), as PyTorch has them; other
    leaves, such as tables, along their last axis. Codes of int8, nf4 and fp4 are those of
    bitsandbytes. To differentiate, `partition` the tree first: gradients are of arrays alone.

    Args:
        params: floating-point leaves of any dtype, where they are selected.
        scheme: "int8" (a scale for each output), "int4" (blocks of 32), "nf4" or "fp4" (blocks of
            64; Dettmers et al. 2023), "float8" (e4m3, a scale for each output), "float8_block"
            (blocks of 128 x 128) or "float8_tensor".
        mask: as in `cast`; None selects the leaves named kernel that have two axes or more.

    Raises:
        ValueError: an unknown scheme; a selected leaf that is quantised or adapted already, has
            integers, fewer than two axes, or rows that do not fill whole bytes; with its path.
    """
    form_of(scheme)

    def one(key_path: KeyPath, leaf: Any, selected: bool) -> Any:
        path = path_of(key_path)
        if not selected:
            return leaf
        if isinstance(leaf, Weight) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"{path} is {leaf.dtype} {leaf.shape}; expected floating-point numbers"
            )
        turned = path.endswith("kernel") and leaf.ndim >= 2
        form = form_of(scheme, leaf.dtype, turned=turned)
        try:
            if isinstance(leaf, jax.ShapeDtypeStruct):
                return jax.eval_shape(lambda x: quantize_array(_stored(x, turned), form), leaf)
            if isinstance(leaf, np.ndarray):
                return quantize_array(_stored(leaf, turned), form)
            return _compiled(leaf, form)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; leave it out by a mask") from None

    chosen = as_mask(_is_kernel if mask is None else mask, params)
    return tree_map_with_path(one, params, chosen, is_leaf=is_weight)


def dequantize(params: PyTree, dtype: jax.typing.DTypeLike | None = None) -> PyTree:
    """Returns a new tree whose quantised leaves, those below adapters too, are arrays of their own
    logical dtype or of `dtype`; the others are the same objects.

    Each is computed in float32 and rounded once.
    """

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, QTensor):
            return leaf
        if isinstance(leaf.data, jax.ShapeDtypeStruct):
            return jax.eval_shape(lambda x: x.dense(dtype), leaf)
        return leaf.dense(dtype)

    return jax.tree.map(one, params, is_leaf=lambda x: isinstance(x, QTensor))


@functools.partial(jax.jit, static_argnums=1)
def _compiled(array: jax.Array, form: Form) -> QTensor:
    """Quantises by one program for all leaves of a shape, whose steps XLA makes a single loop."""
    return quantize_array(_stored(array, form.turned), form)


def _is_kernel(path: str, leaf: Any) -> bool:
    return path.endswith("kernel") and leaf.ndim >= 2 and not isinstance(leaf, Weight)


def _stored(array: Any, turned: bool) -> Any:
    return array.swapaxes(-1, -2) if turned else array
