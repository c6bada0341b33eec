"""Attention by its formula, which gives the weights too, and holds them all: [B, N, T, S]. That of
`jax.nn.dot_product_attention` by XLA is the same, and takes twice as long to trace: it is mapped
over the query heads of a group."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import PrecisionLike

from ...params.tree.cast import at_least_float32


class Scoring(NamedTuple):
    """What becomes of the products of queries and keys before the softmax, in this order.

    Attributes:
        scale: multiplies them.
        softcap: c of c * tanh(x / c) (Bello et al. 2016, arXiv:1611.09940); None for no cap.
        bias: [B or 1, N, T or 1, S], added; None for none.
        sinks: [N], a logit of each head that is one more term of the softmax's denominator (Xiao et
            al. 2023, arXiv:2309.17453); None for none.
    """

    scale: float
    softcap: float | None = None
    bias: jax.Array | None = None
    sinks: jax.Array | None = None

    def logits(self, q: jax.Array, k: jax.Array, precision: PrecisionLike = None) -> jax.Array:
        """Returns logits [B, K, G, T, S] of q [B, T, K, G, H] and k [B, S, K, H], in float32 or, of
        float64, in that."""
        dtype = at_least_float32(q.dtype)
        product = functools.partial(jnp.einsum, "BTKGH,BSKH->BKGTS", preferred_element_type=dtype)
        logits = product(q, k, precision=precision) * self.scale
        if self.softcap is not None:
            logits = self.softcap * jnp.tanh(logits / self.softcap)
        if self.bias is not None:
            logits = logits + grouped(self.bias.astype(dtype), logits.shape)
        return logits


def grouped(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Broadcasts x [B or 1, N or 1, T or 1, S] to `shape`, (B, K, G, T, S)."""
    b, k, g, t, s = shape
    if x.shape[1] == 1:
        return jnp.broadcast_to(x[:, :, None], shape)
    return jnp.broadcast_to(x.reshape(x.shape[0], k, g, *x.shape[2:]), shape)


def formula(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    scoring: Scoring,
    *,
    dropout: float = 0.0,
    dropout_key: jax.Array | None = None,
    precision: PrecisionLike = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes [B, T, N, Hv] and the weights [B, N, T, S], both in the dtype of q.

    Args:
        mask: bool [B or 1, 1 or N, T or 1, S].
        dropout: rate at which weights are dropped, if there is a `dropout_key`.
        precision: of the products of queries and keys.
    """
    (b, t, n, h), (s, groups) = q.shape, k.shape[1:3]
    logits = scoring.logits(q.reshape(b, t, groups, n // groups, h), k, precision)
    if mask is not None:
        logits = jnp.where(grouped(mask, logits.shape), logits, jnp.finfo(logits.dtype).min)
    weights = _softmax(logits, scoring.sinks).astype(q.dtype)
    if dropout_key is not None:
        kept = jax.random.bernoulli(dropout_key, 1 - dropout, weights.shape)
        weights = jnp.where(kept, weights / (1 - dropout), 0)
    out = jnp.einsum("BKGTS,BSKH->BTKGH", weights, v)
    return out.reshape(b, t, n, v.shape[3]), weights.reshape(b, n, t, s)


def _softmax(logits: jax.Array, sinks: jax.Array | None) -> jax.Array:
    if sinks is None:
        return jax.nn.softmax(logits)
    b, k, g, t, s = logits.shape
    sink = jnp.broadcast_to(sinks.astype(logits.dtype).reshape(1, k, g, 1, 1), (b, k, g, t, 1))
    return jax.nn.softmax(jnp.concatenate([logits, sink], axis=-1))[..., :s]
