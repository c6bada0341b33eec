"""Precision of a step: what is computed in 16 bits, and the scale of a loss in float16."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.tree_util import KeyPath, tree_map_with_path

from ..params.tree.cast import DtypeLike, parse_dtype
from ..params.tree.paths import path_of
from ..params.types import PyTree
from .argument_checks import number
from .optimizers.leaf_tests import LeafTest

FIRST_SCALE, GROWTH_STEPS, FACTOR = 65536.0, 2000, 2.0


class LossScale(struct.PyTreeNode):
    """By how much a loss is multiplied before its gradients are taken, so that small ones do not
    vanish in float16 (Micikevicius et al. 2018, arXiv:1710.03740).

    Attributes:
        scale: float32 [].
        good_steps: int32 [], steps without overflow since the scale last changed.
        dynamic: whether it is doubled after 2000 of them, and halved when a gradient is not finite.
    """

    scale: jax.Array
    good_steps: jax.Array
    dynamic: bool = struct.field(pytree_node=False, default=True)

    def after(self, finite: jax.Array) -> "LossScale":
        """Returns the scale for the next step; `finite` says whether this one's gradients were."""
        if not self.dynamic:
            return self
        good = jnp.where(finite, self.good_steps + 1, 0)
        grown = jnp.where(good >= GROWTH_STEPS, self.scale * FACTOR, self.scale)
        # neither may leave the numbers of float32, in which nothing would bring it back
        grown = jnp.where(jnp.isfinite(grown), grown, self.scale)
        halved = jnp.maximum(self.scale / FACTOR, float(np.finfo(np.float32).tiny))
        return self.replace(scale=jnp.where(finite, grown, halved), good_steps=good % GROWTH_STEPS)


def first_scale(loss_scale: float | str | None, dtype: DtypeLike | None) -> LossScale | None:
    """Returns the scale of the first step.

    Args:
        loss_scale: a number, which stays; "dynamic"; or None, which is "dynamic" where `dtype`, in
            which is computed, is float16, and no scale elsewhere.

    Raises:
        ValueError: something else.
    """
    if loss_scale is None:
        if dtype is None or jnp.dtype(dtype) != jnp.float16:
            return None
        loss_scale = "dynamic"
    dynamic = loss_scale == "dynamic"
    if not dynamic:
        loss_scale = number("loss_scale", loss_scale, exclusive=True, hint=", or 'dynamic'")
    first = FIRST_SCALE if dynamic else loss_scale
    return LossScale(jnp.float32(first), jnp.int32(0), dynamic)


def compute_copy(params: PyTree, dtype: DtypeLike, is_matrix: LeafTest) -> PyTree:
    """Returns params of which the wider floating-point leaves that `is_matrix` chooses are in
    `dtype`, in a trace. Biases and scales stay as they are: norms compute in float32."""
    dtype = parse_dtype(dtype)

    def one(key_path: KeyPath, leaf: jax.Array) -> jax.Array:
        wide = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize > dtype.itemsize
        return leaf.astype(dtype) if wide and is_matrix(path_of(key_path), leaf) else leaf

    return tree_map_with_path(one, params)
