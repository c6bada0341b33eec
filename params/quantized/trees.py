"""Quantising trees of params, and making them dense again."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import KeyPath, tree_map_with_path

from ..tree.cast import parse_dtype
from ..tree.masks import Mask, as_mask
from ..tree.paths import check_alive, path_of
from ..tree.weights import Weight, is_weight
from ..types import Concrete, PyTree
from .codes import module_of
from .make import form_of, quantize_leaf
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
        mask: as in `cast`; None selects the leaves named kernel that have two axes or more and are
            not quantised.

    Raises:
        ValueError: an unknown scheme; a selected leaf that is no array, is quantised or adapted
            already, has integers, fewer than two axes, rows that do not fill whole bytes, NaN or
            infinity; with its path. No leaf is selected.
    """
    form_of(scheme)

    def one(key_path: KeyPath, leaf: Any, selected: bool) -> Any:
        path = path_of(key_path)
        if not selected:
            return leaf
        _check_array(path, leaf)
        turned = path.endswith("kernel") and leaf.ndim >= 2
        form = form_of(scheme, leaf.dtype, turned=turned)
        try:
            if isinstance(leaf, jax.ShapeDtypeStruct):
                return jax.eval_shape(lambda x: quantize_leaf(x, form), leaf)
            made, finite[path] = (_made if isinstance(leaf, np.ndarray) else _compiled)(leaf, form)
            return made
        except ValueError as error:
            raise ValueError(f"{path}: {error}; leave it out by a mask") from None

    finite: dict[str, Concrete] = {}
    chosen = as_mask(_is_kernel if mask is None else mask, params)
    if jax.tree.leaves(params) and not any(jax.tree.leaves(chosen)):
        what = "no array of two axes is named kernel" if mask is None else "the mask selects none"
        raise ValueError(f"nothing to quantise: {what}")
    tree = tree_map_with_path(one, params, chosen, is_leaf=is_weight)
    for path, is_finite in finite.items():  # after all were begun: to ask waits for the device
        if not isinstance(is_finite, Tracer) and not is_finite:
            raise ValueError(f"{path} holds NaN or infinity, which no code stands for")
    return tree


def _check_array(path: str, leaf: object) -> None:
    if isinstance(leaf, Weight):
        first = "fp.dequantize first" if isinstance(leaf, QTensor) else "quantise before adapters"
        raise ValueError(
            f"{path} is held as {leaf.held_as}; expected an array. Leave it out by a mask, or "
            f"{first}"
        )
    if not isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        raise ValueError(
            f"{path} is a {type(leaf).__name__}; expected an array of NumPy or JAX, which "
            "np.asarray makes of what is in a file or of another library"
        )
    check_alive({path: leaf})
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise ValueError(f"{path} is {leaf.dtype} {leaf.shape}; expected floating-point numbers")


def dequantize(params: PyTree, dtype: jax.typing.DTypeLike | None = None) -> PyTree:
    """Returns a new tree whose quantised leaves, those below adapters too, are arrays of their own
    logical dtype or of `dtype`; the others are the same objects.

    Each is computed in float32 and rounded once.

    Raises:
        ValueError: a dtype that has no floating-point numbers.
    """
    dtype = None if dtype is None else parse_dtype(dtype)

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, QTensor):
            return leaf
        if isinstance(leaf.data, jax.ShapeDtypeStruct):
            return jax.eval_shape(lambda x: x.dense(dtype), leaf)
        return leaf.dense(dtype)

    return jax.tree.map(one, params, is_leaf=lambda x: isinstance(x, QTensor))


def _made(array: Concrete, form: Form) -> tuple[QTensor, Concrete]:
    """Quantises a leaf -> the weight, and whether all numbers are finite, as scales are then."""
    with np.errstate(invalid="ignore", over="ignore"):
        made = quantize_leaf(array, form)
    return made, module_of(array).isfinite(made.scale).all()


_compiled = functools.partial(jax.jit, static_argnums=1)(_made)
"""One program for all leaves of a shape, whose steps XLA makes a single loop."""


def _is_kernel(path: str, leaf: Any) -> bool:
    # one with adapters is chosen, and refused: to be left out without a word is nobody's wish
    rank = len(leaf.shape) if isinstance(leaf, Weight) else getattr(leaf, "ndim", 0)
    return path.endswith("kernel") and rank >= 2 and not isinstance(leaf, QTensor)
