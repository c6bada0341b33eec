"""Self-attention between a layer's projections: rotary embedding, cache, mask, head scales."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import sharding as fs
from .attention.mask import AttentionMask
from .attention.over_length import attend_over_length
from .context import ModelOptions, PassContext
from .kv_cache import Cache, Read
from .remat import named
from .rope.rotary import rotate
from .stack import At


def split_heads(x: jax.Array, head_dim: int) -> jax.Array:
    """Splits x [B, T, N*H] into heads [B, T, N, H]."""
    return x.reshape(*x.shape[:-1], x.shape[-1] // head_dim, head_dim)


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
        bias: see `attend`; that of the context if None.
        sinks, softcap: see `attend`.

    Returns:
        [B, T, N*Hv], the cache with the new keys and values, and the weights if they are asked for.
    """
    q = fs.constrain(q, ("batch", "length", "heads", None), options.rules)
    k, v = (fs.constrain(x, ("batch", "length", "kv_heads", None), options.rules) for x in (k, v))
    dropping = dropout > 0 and not context.deterministic
    dropout_key = module.make_rng("dropout") if dropping else None

    def turned(rotary: str | None) -> tuple[jax.Array, jax.Array]:
        return (q, k) if rotary is None else rotate(q, k, context.rotations[rotary])

    query, key, v = named((*at.of("rotary", turned), v), "attention_qkv")
    reads, cache = _written(context.cache, at, key, v, options.rules)

    def attended(attention: str) -> tuple[jax.Array, jax.Array | None]:
        keys, values = reads[attention]() if reads else (key, v)
        out, weights = attended_heads(
            query,
            keys,
            values,
            context.masks[attention],
            context,
            at,
            options=options,
            scale=scale,
            dropout=dropout,
            dropout_key=dropout_key,
            bias=context.biases.get(attention) if bias is None else bias,
            sinks=sinks,
            softcap=softcap,
        )
        return out, _padded(weights, context, at)

    out, weights = at.of("attention", attended)
    return named(out, "attention_out"), cache, weights


def _written(
    cache: Cache | None, at: At, k: jax.Array, v: jax.Array, rules: object
) -> tuple[dict[str, Read], Cache | None]:
    """Writes into the entry of the layer's kind -> ({attention kind: what is read there}, cache).

    In a scan over several kinds, the entries of the others are written as they were."""
    reads, (attentions, own) = {}, at.among("attention")
    if cache is not None:
        for i, each in enumerate(attentions):
            only = jnp.equal(own, i) if len(attentions) > 1 else None
            reads[each], cache = cache.write(each, at.slot, k, v, only, rules=rules)
    return reads, cache


def _padded(weights: jax.Array | None, context: PassContext, at: At) -> jax.Array | None:
    """Pads weights [B, N, T, S] to as many keys as layers of any of the kinds attend to; a scan
    returns them cut again."""
    if weights is None or context.cache is None:
        return weights
    most = max(context.num_keys(each) for each in at.among("attention")[0])
    return jnp.pad(weights, ((0, 0), (0, 0), (0, 0), (0, most - weights.shape[-1])))


def attended_heads(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: AttentionMask,
    context: PassContext,
    at: At,
    *,
    options: ModelOptions,
    **others: Any,
) -> tuple[jax.Array, jax.Array | None]:
    """Attends as `attend` with `others`, computing in the dtype of q, and multiplies each head with
    the layer's `head_scales` -> ([B, T, N*Hv], weights [B, N, T, S] if the context asks for
    them)."""
    out, weights = attend_over_length(
        q,
        k.astype(q.dtype),
        v.astype(q.dtype),
        mask,
        rules=options.rules,
        implementation=options.attn_implementation,
        need_weights=context.output_attentions,
        **others,
    )
    out = fs.constrain(out, ("batch", "length", "heads", None), options.rules)
    return scaled_heads(out, weights, context, at)


def scaled_heads(
    out: jax.Array, weights: jax.Array | None, context: PassContext, at: At
) -> tuple[jax.Array, jax.Array | None]:
    """Multiplies each head of out [B, T, N, Hv], and of the weights [B, N, T, S] if there are any,
    with the layer's `head_scales`, and puts the heads beside each other: [B, T, N*Hv]."""
    if context.head_scales is not None:
        scales = context.head_scales[at.layer].astype(out.dtype)
        out = out * scales[None, None, :, None]
        weights = None if weights is None else weights * scales[None, :, None, None]
    return out.reshape(*out.shape[:2], -1), weights
