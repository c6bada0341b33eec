"""Attention by cuDNN ("flash"), through `jax.nn.dot_product_attention`.

It takes a bias, a mask and the rules of causal and sliding attention. What else is asked of it is
put into that form: a sink is the bias of more keys, of zeros; values of another width than keys
are padded on the way in and cut on the way out.
"""

import math

import jax
import jax.numpy as jnp

from .eager_attention import Scoring
from .mask import AttentionMask, Both, Causal, Window


def fused(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, scoring: Scoring
) -> jax.Array:
    """Computes [B, T, N, Hv]. There must be no soft cap, which JAX's function has not.

    Raises:
        ValueError: inputs of a dtype that cuDNN does not compute in.
    """
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        raise ValueError(
            f"attn_implementation 'flash' needs bfloat16 or float16, and this model computes in "
            f"{q.dtype.name}: give dtype=jnp.bfloat16, or use 'sdpa'"
        )
    t, s, width = q.shape[1], k.shape[1], v.shape[3]
    bias = scoring.bias
    options = {} if scoring.sinks is not None else _rule_options(mask, t, s)
    seen = (mask._replace(rule=None) if options else mask).array(t, s)
    if scoring.sinks is not None:
        more = 2 - s % 2  # gradients of cuDNN want an even number of keys if there is a bias
        k, v = (jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))) for x in (k, v))
        bias = _with_sinks(bias, scoring.sinks.astype(jnp.float32), s, more)
        if seen is not None:
            seen = jnp.pad(seen, ((0, 0), (0, 0), (0, 0), (0, more)), constant_values=True)
    q, k, v = _of_one_width(q, k, v)
    seen, bias = (_whole(x, t) for x in (seen, bias))
    if bias is not None:
        bias = bias.astype(q.dtype)
    with jax.numpy_dtype_promotion("standard"):  # it mixes dtypes of 16 bits with its float32
        out = jax.nn.dot_product_attention(
            q,
            k,
            v,
            bias,
            seen,
            scale=scoring.scale,
            implementation="cudnn",
            **options,
        )
    return out[..., :width]


def _rule_options(mask: AttentionMask, queries: int, keys: int) -> dict:
    """Returns the options that say what the mask's rule says, or {} where there are none: JAX's
    function has no window over a symbolic length, which a mask must say."""
    if not mask.in_order or queries != keys:
        return {}
    if not isinstance(queries, int) and mask.rule != Causal():
        return {}
    match mask.rule:
        case Causal():
            return {"is_causal": True}
        case Both(Causal(), Window(size)) | Both(Window(size), Causal()):
            return {"is_causal": True, "local_window_size": (size - 1, 0)}
    return {}


def _with_sinks(bias: jax.Array | None, sinks: jax.Array, keys: int, more: int) -> jax.Array:
    """Adds to the bias of `keys` keys that of `more`, which share each head's sink."""
    sinks = sinks[None, :, None, None] - math.log(more)
    if bias is None:
        bias = jnp.zeros((*sinks.shape[:3], keys), sinks.dtype)
    shared = jnp.broadcast_to(sinks, (*bias.shape[:3], more))
    return jnp.concatenate([bias.astype(sinks.dtype), shared], axis=-1)


def _of_one_width(*arrays: jax.Array) -> list[jax.Array]:
    width = max(x.shape[-1] for x in arrays)
    return [
        x if x.shape[-1] == width else jnp.pad(x, ((0, 0),) * 3 + ((0, width - x.shape[-1]),))
        for x in arrays
    ]


def _whole(x: jax.Array | None, queries: int) -> jax.Array | None:
    """Broadcasts over queries, which cuDNN does not."""
    return None if x is None else jnp.broadcast_to(x, (*x.shape[:2], queries, x.shape[3]))
