"""Runs the layers of a model whose tokens are spread over devices."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .. import sharding as fs
from .attention.mask import AttentionMask
from .context import PassContext
from .stack import LayersOutput


def run_over_length(
    run: Callable[[jax.Array, PassContext], LayersOutput],
    x: jax.Array,
    context: PassContext,
    rules: object,
    *,
    is_causal: bool,
) -> LayersOutput:
    """Runs layers: `run(x [B, T, D], context)`. Where `rules` split the length and the layers are
    causal, tokens go through them in the order of `fs.dual_chunk_order`, and what comes out is in
    the order in which they came; a length that is not so many chunks keeps its order.

    Raises:
        ValueError: a cache, whose tokens are not split.
    """
    axes = fs.length_axes(x, rules)
    if axes and context.cache is not None:
        raise ValueError(
            f"a cache, on a mesh whose axis {', '.join(axes)} splits the length: what is generated "
            "token by token is not split; model.clone(rules=...) with ('length', None) generates"
        )
    split = fs.activation_axes(x, ("batch", "length", "hidden"), rules)
    parts = math.prod(jax.typeof(x).sharding.mesh.shape[axis] for axis in axes)
    if split is None or not (axes and is_causal) or x.shape[1] % (2 * parts):
        return run(x, context)
    order = fs.dual_chunk_order(x.shape[1], parts)
    out = run(fs.to_dual_chunks(x, split), reordered(context, order))
    back = lambda x: fs.from_dual_chunks(x, split)  # noqa: E731
    weights = jax.tree.map(lambda x: _taken(x, np.argsort(order), 2, 3), out.attentions)
    return LayersOutput(back(out.x), out.cache, tuple(map(back, out.entered)), weights)


def reordered(context: PassContext, order: np.ndarray) -> PassContext:
    """Returns the context of the same tokens in another order, int [T]."""

    def of_mask(mask: AttentionMask) -> AttentionMask:
        tokens = None if mask.tokens is None else _taken(mask.tokens, order, 2, 3)
        queries, keys = mask.places(len(order), len(order))
        return AttentionMask(mask.rule, tokens, queries[order], keys[order])

    return context._replace(
        positions=_taken(context.positions, order, 1),
        masks={name: of_mask(mask) for name, mask in context.masks.items()},
        biases={name: _taken(bias, order, 2, 3) for name, bias in context.biases.items()},
        rotations=jax.tree.map(lambda x: _taken(x, order, 1), context.rotations),
    )


def _taken(x: jax.Array, order: np.ndarray, *dims: int) -> jax.Array:
    """Reorders those of these dimensions of x that are as long as the order; others are of 1."""
    for dim in dims:
        x = jnp.take(x, order, axis=dim) if x.shape[dim] == len(order) else x
    return x
