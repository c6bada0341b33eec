"""Scaled dot-product attention: by the formula ("eager"), by JAX ("sdpa") or by cuDNN ("flash")."""

import jax
import jax.numpy as jnp

from .formula import Scoring, formula
from .fused import fused
from .mask import AttentionMask

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
    mask: AttentionMask,
    *,
    scale: float,
    bias: jax.Array | None = None,
    sinks: jax.Array | None = None,
    softcap: float | None = None,
    implementation: str = "sdpa",
    dropout: float = 0.0,
    dropout_key: jax.Array | None = None,
    need_weights: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
    """Computes softmax(softcap(q k^T scale) + bias) v for N query heads in groups over K key-value
    heads.

    The softmax is computed in float32, or in float64 of such inputs. A query that may attend to
    nothing gets a mean of the values: finite, and of no meaning. Weights, dropout and soft caps
    exist only in the formula, which then serves the call under any `implementation`. A single query
    is left to "sdpa" by "flash": cuDNN brings nothing there.

    Args:
        q: [B, T, N, H].
        k: [B, S, K, H], with N a multiple of K.
        v: [B, S, K, Hv].
        bias: see `Scoring`, as `sinks` and `softcap`.
        dropout: rate at which weights are dropped, if there is a `dropout_key`.

    Returns:
        [B, T, N, Hv] in the dtype of q, and, if `need_weights`, [B, N, T, S].
    """
    check_attention(implementation)
    scoring = Scoring(scale, softcap, bias, sinks)
    key = dropout_key if dropout > 0 else None
    only_formula = need_weights or key is not None or softcap is not None
    if implementation == "eager" or only_formula or q.dtype == jnp.float64:
        seen = mask.array(q.shape[1], k.shape[1])
        out, weights = formula(q, k, v, seen, scoring, dropout=dropout, dropout_key=key)
        return out, weights if need_weights else None
    flash = implementation == "flash" and q.shape[1] > 1
    if flash and q.dtype not in (jnp.bfloat16, jnp.float16):
        raise ValueError(
            f"attn_implementation 'flash' needs bfloat16 or float16, and this model computes in "
            f"{q.dtype.name}: give dtype=jnp.bfloat16, or use 'sdpa'"
        )
    return fused(q, k, v, mask, scoring, flash=flash), None
