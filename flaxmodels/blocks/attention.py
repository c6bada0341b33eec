"""Scaled dot-product attention: the formula, JAX's, or cuDNN's; and the masks it takes."""

import jax
import jax.numpy as jnp
import numpy as np

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


def make_mask(
    attention_mask: jax.Array | None,
    *,
    length: int,
    slots: jax.Array | None = None,
    start: jax.Array | int = 0,
) -> jax.Array | None:
    """The mask of `attend`: bool [B, 1, T or 1, S], True = attend; None for everywhere.

    Args:
        attention_mask: [B, S] over keys or [B, T, S] over pairs, nonzero = attend.
        length: T.
        slots: bool [B, S], which slots of a cache hold a token; `attention_mask` is part of it
            already, and query t stands at slot `start` + t and sees no later one.
    """
    if slots is not None:
        queries = start + jnp.arange(length, dtype=jnp.int32)
        seen = queries[:, None] >= jnp.arange(slots.shape[1], dtype=jnp.int32)[None]
        return slots[:, None, None] & seen[None, None]
    if attention_mask is None:
        return None
    mask = jnp.asarray(attention_mask).astype(bool)
    if mask.ndim == 2 and mask.shape[1] == length:
        return mask[:, None, None]
    if mask.ndim == 3 and mask.shape[1:] == (length, length):
        return mask[:, None]
    raise ValueError(
        f"attention_mask {mask.shape}: expected [B, {length}] over tokens, or "
        f"[B, {length}, {length}] over pairs of them"
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
    """softmax(q k^T scale) v for N query heads in groups over K key-value heads.

    The softmax is computed in float32. A query that may attend to nothing gets a mean of the
    values: finite, and of no meaning. Weights and dropout exist only in the formula ("eager"),
    which serves such calls whatever the `implementation`; and a single query, to which cuDNN
    brings nothing, is computed as by "sdpa".

    Args:
        q: [B, T, N, H].
        k: [B, S, K, H], with N a multiple of K.
        v: as k.
        mask: bool [B or 1, 1 or N, T or 1, S], True = attend; None for everywhere.
        causal: query t also sees keys 0..t only.
        dropout: rate at which weights are dropped, if there is a `dropout_key`.

    Returns:
        [B, T, N, H] in the dtype of q, and, if `need_weights`, [B, N, T, S].
    """
    check_attention(implementation)
    dropping = dropout > 0 and dropout_key is not None
    if implementation == "eager" or need_weights or dropping:
        mask = _causal(mask, q, k) if causal else mask
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


def _causal(mask: jax.Array | None, q: jax.Array, k: jax.Array) -> jax.Array:
    seen = np.tri(q.shape[1], k.shape[1], dtype=bool)[None, None]
    return jnp.asarray(seen) if mask is None else mask & seen


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
