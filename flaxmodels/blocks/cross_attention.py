"""Cross-attention: a decoder's queries, keys and values of an encoder's states."""

from collections.abc import Callable

import jax
from flax import linen as nn

from .. import sharding as fs
from .attention.mask import AttentionMask
from .context import ModelOptions, PassContext
from .kv_cache import Cache
from .remat import named
from .self_attention import attended_heads
from .stack import At

Projections = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def cross_attention(
    module: nn.Module,
    q: jax.Array,
    project: Projections,
    context: PassContext,
    at: At,
    *,
    options: ModelOptions,
    scale: float,
    dropout: float = 0.0,
) -> tuple[jax.Array, Cache | None, jax.Array | None]:
    """Attends with q [B, T, N, H] to the states of an encoder: those of the context, whose keys and
    values go into a cache that is there, or those that the cache has of an earlier call.

    Args:
        project: makes k [B, S, K, H] and v of the states [B, S, De].
        others: as in `self_attention`.

    Returns:
        [B, T, N*H], the cache, and the weights [B, N, T, S] if they are asked for.
    """
    q = fs.constrain(q, ("batch", "length", "heads", None), options.rules)
    cache = context.cache
    if context.encoder_states is not None:
        k, v = project(context.encoder_states)
        if cache is not None:
            cache = cache.write_cross(at.layer, k, v)
    elif cache is not None:
        k, v = cache.cross_at(at.layer)
    else:
        raise ValueError(
            "cross-attention needs encoder_hidden_states, or a cache that has seen them"
        )
    q, k, v = named((q, k, v), "attention_qkv")
    dropping = dropout > 0 and not context.deterministic
    out, weights = attended_heads(
        q,
        k,
        v,
        AttentionMask(tokens=context.encoder_mask),
        context,
        at,
        options=options,
        scale=scale,
        dropout=dropout,
        dropout_key=module.make_rng("dropout") if dropping else None,
    )
    return named(out, "attention_out"), cache, weights
