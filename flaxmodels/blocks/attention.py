"""Scaled dot-product attention: by the formula ("eager"), by JAX ("sdpa") or by cuDNN ("flash")."""

import jax
import jax.numpy as jnp

from .mask import causal_mask

IMPLEMENTATIONS = ("eager", "sdpa", "flash")


def check_attention(name: str) -> None:
    """Raises `ValueError` unless attention implementation `name` runs on the default backend."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"attn_implementation {name!r}: expected one of {', '.join(IMPLEMENTATIONS)}"
        )
    if name == "flash" and (backend := jax.default_backend()) != "gpu":
        raise ValueError(
            f"attn_implementation 'flash' is cuDNN's and needs an NVIDIA GPU; the backend is "
            f"{backend!r}: use 'sdpa'"
        )


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    *,
    scale: float,
    causal: bool = False,
    implementation: str = "sdpa",
    dropout: float = 0.0,
    dropout_key: jax.Array | None = None,
    need_weights: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
    """Computes softmax(q k^T scale) v for N query heads in groups over K key-value heads.

    The softmax is computed in float32. A query that may attend to nothing gets a mean of the
    values: finite, and of no meaning. Weights and dropout exist only in the formula, which then
    serves the call under any `implementation`. A single query is left to "sdpa" by "flash": cuDNN
    brings nothing there.

    Args:
        q: [B, T, N, H].
        k: [B, S, K, H], with N a multiple of K.
        v: as k.
        mask: bool [B or 1, 1 or N, T or 1, S], True = attend; None for everywhere.
        causal: query t attends to keys 0..t only, beside what `mask` says; S = T.
        dropout: rate at which weights are dropped, if there is a `dropout_key`.

    Returns:
        [B, T, N, H] in the dtype of q, and, if `need_weights`, [B, N, T, S].
    """
    check_attention(implementation)
    dropping = dropout > 0 and dropout_key is not None
    if implementation == "eager" or need_weights or dropping:
        if causal:
            seen = causal_mask(q.shape[1], k.shape[1])[None, None]
            mask = seen if mask is None else mask & seen
        key = dropout_key if dropping else None
        out, weights = _formula(q, k, v, mask, scale, dropout, key)
        return out, weights if need_weights else None
    compute = _flash if implementation == "flash" and q.shape[1] > 1 else _sdpa
    return compute(q, k, v, mask, scale, causal), None


def _sdpa(q, k, v, mask, scale, causal) -> jax.Array:
    return jax.nn.dot_product_attention(
        q, k, v, mask=mask, scale=scale, is_causal=causal, implementation="xla"
    )


def _flash(q, k, v, mask, scale, causal) -> jax.Array:
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        raise ValueError(
            f"attn_implementation 'flash' needs bfloat16 or float16, and this model computes in "
            f"{q.dtype.name}: give dtype=jnp.bfloat16, or use 'sdpa'"
        )
    if mask is not None:
        mask = jnp.broadcast_to(mask, (*mask.shape[:2], q.shape[1], k.shape[1]))
    return jax.nn.dot_product_attention(
        q, k, v, mask=mask, scale=scale, is_causal=causal, implementation="cudnn"
    )


def _formula(q, k, v, mask, scale, dropout, key) -> tuple[jax.Array, jax.Array]:
    (b, t, n, h), (s, groups) = q.shape, k.shape[1:3]
    q = q.reshape(b, t, groups, n // groups, h)
    logits = jnp.einsum("BTKGH,BSKH->BKGTS", q, k, preferred_element_type=jnp.float32) * scale
    if mask is not None:
        mask = jnp.broadcast_to(mask, (b, n, t, s)).reshape(logits.shape)
        logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(logits).astype(q.dtype)
    if key is not None:
        kept = jax.random.bernoulli(key, 1 - dropout, weights.shape)
        weights = jnp.where(kept, weights / (1 - dropout), 0)
    out = jnp.einsum("BKGTS,BSKH->BTKGH", weights, v)
    return out.reshape(b, t, n, h), weights.reshape(b, n, t, s)
