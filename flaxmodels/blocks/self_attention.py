"""The middle of a self-attention layer: heads in, heads out, with rotary, cache and sharding."""

import jax
from flax import linen as nn

from .. import sharding as fs
from .attention import attend
from .cache import Cache
from .context import Call, Run
from .rotary import apply_rotary


def self_attention(
    module: nn.Module,
    qkv: tuple[jax.Array, jax.Array, jax.Array],
    cache: Cache | None,
    index: int | jax.Array,
    *,
    head_dim: int,
    scale: float,
    dropout: float,
    run: Run,
    call: Call,
) -> tuple[jax.Array, Cache | None, jax.Array | None]:
    """Projections of q [B, T, N*H], k and v [B, T, K*H] -> ([B, T, N*H], cache, weights or None).

    Args:
        module: the linen module in whose call this happens; it gives the dropout key.
        index: the layer's number, for its place in the cache.
        dropout: rate at which attention weights are dropped unless `call.deterministic`.
    """
    q, k, v = (x.reshape(*x.shape[:2], -1, head_dim) for x in qkv)
    q = fs.constrain(q, ("batch", "length", "heads", None), run.rules)
    k, v = (fs.constrain(x, ("batch", "length", "kv_heads", None), run.rules) for x in (k, v))
    if call.rotary is not None:
        q, k = apply_rotary(q, call.rotary), apply_rotary(k, call.rotary)
    if cache is not None:
        k, v, cache = cache.write(index, k, v)
    dropping = dropout > 0 and not call.deterministic
    out, weights = attend(
        q,
        k.astype(q.dtype),
        v.astype(q.dtype),
        call.mask,
        scale=scale,
        causal=call.causal,
        implementation=run.attn_implementation,
        dropout=dropout,
        dropout_key=module.make_rng("dropout") if dropping else None,
        need_weights=call.output_attentions,
    )
    if call.head_scales is not None:
        scales = call.head_scales[index].astype(out.dtype)
        out = out * scales[None, None, :, None]
        weights = None if weights is None else weights * scales[None, :, None, None]
    return out.reshape(*out.shape[:2], -1), cache, weights
