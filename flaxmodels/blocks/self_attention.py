"""Self-attention between a layer's projections: heads, rotary embedding, cache, head scales."""

import jax
from flax import linen as nn

from .. import sharding as fs
from .attention import attend
from .context import ModelOptions, PassContext
from .kv_cache import Cache
from .rotary import rotate


def self_attention(
    module: nn.Module,
    qkv: tuple[jax.Array, jax.Array, jax.Array],
    context: PassContext,
    index: int | jax.Array,
    *,
    options: ModelOptions,
    head_dim: int,
    scale: float,
    dropout: float,
) -> tuple[jax.Array, Cache | None, jax.Array | None]:
    """Attends with projections q [B, T, N*H], k and v [B, T, K*H] of the same tokens.

    Args:
        module: the linen module in whose call this happens; it gives the dropout key.
        index: the layer's number, for its place in the cache.
        dropout: rate at which attention weights are dropped unless `context.deterministic`.

    Returns:
        [B, T, N*H], the cache with the new keys and values, and the weights if they are asked for.
    """
    q, k, v = (x.reshape(*x.shape[:2], -1, head_dim) for x in qkv)
    q = fs.constrain(q, ("batch", "length", "heads", None), options.rules)
    k, v = (fs.constrain(x, ("batch", "length", "kv_heads", None), options.rules) for x in (k, v))
    if context.rotary is not None:
        q, k = rotate(q, k, context.rotary)
    cache = context.cache
    if cache is not None:
        k, v, cache = cache.write(index, k, v)
    dropping = dropout > 0 and not context.deterministic
    out, weights = attend(
        q,
        k.astype(q.dtype),
        v.astype(q.dtype),
        context.mask,
        scale=scale,
        implementation=options.attn_implementation,
        dropout=dropout,
        dropout_key=module.make_rng("dropout") if dropping else None,
        need_weights=context.output_attentions,
    )
    if context.head_scales is not None:
        scales = context.head_scales[index].astype(out.dtype)
        out = out * scales[None, None, :, None]
        weights = None if weights is None else weights * scales[None, :, None, None]
    return out.reshape(*out.shape[:2], -1), cache, weights
