"""Self-attention between a layer's projections: rotary embedding, cache, mask, head scales."""

import jax
from flax import linen as nn

from .. import sharding as fs
from .attention import attend
from .context import ModelOptions, PassContext
from .kv_cache import Cache
from .rope import rotate
from .stack import At


def split_heads(x: jax.Array, head_dim: int) -> jax.Array:
    """Splits x [B, T, N*H] into heads [B, T, N, H]."""
    return x.reshape(*x.shape[:-1], -1, head_dim)


def self_attention(
    module: nn.Module,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    context: PassContext,
    at: At,
    *,
    options: ModelOptions,
    scale: float,
    dropout: float = 0.0,
    bias: jax.Array | None = None,
    sinks: jax.Array | None = None,
    softcap: float | None = None,
) -> tuple[jax.Array, Cache | None, jax.Array | None]:
    """Attends with q [B, T, N, H], k [B, T, K, H] and v [B, T, K, Hv] of the same tokens.

    Args:
        module: the linen module in whose call this happens; it gives the dropout key.
        at: of the layer; its kind says which mask, rotation and cache entry are its.
        dropout: rate at which attention weights are dropped unless `context.deterministic`.
        bias, sinks, softcap: see `attend`.

    Returns:
        [B, T, N*Hv], the cache with the new keys and values, and the weights if they are asked for.
    """
    q = fs.constrain(q, ("batch", "length", "heads", None), options.rules)
    k, v = (fs.constrain(x, ("batch", "length", "kv_heads", None), options.rules) for x in (k, v))
    if at.kind.rotary is not None:
        q, k = rotate(q, k, context.rotations[at.kind.rotary])
    cache = context.cache
    if cache is not None:
        k, v, cache = cache.write(at.kind.attention, at.slot, k, v)
    dropping = dropout > 0 and not context.deterministic
    out, weights = attend(
        q,
        k.astype(q.dtype),
        v.astype(q.dtype),
        context.masks[at.kind.attention],
        scale=scale,
        implementation=options.attn_implementation,
        dropout=dropout,
        dropout_key=module.make_rng("dropout") if dropping else None,
        need_weights=context.output_attentions,
        bias=bias,
        sinks=sinks,
        softcap=softcap,
    )
    out, weights = scaled_heads(out, weights, context, at)
    return out.reshape(*out.shape[:2], -1), cache, weights


def scaled_heads(
    out: jax.Array, weights: jax.Array | None, context: PassContext, at: At
) -> tuple[jax.Array, jax.Array | None]:
    """Multiplies out [B, T, N, H] and weights [B, N, T, S] with the layer's `head_scales`."""
    if context.head_scales is None:
        return out, weights
    scales = context.head_scales[at.layer].astype(out.dtype)
    out = out * scales[None, None, :, None]
    return out, None if weights is None else weights * scales[None, :, None, None]
