"""Scaled dot-product attention, and which path serves a call: the formula ("eager", "sdpa"), cuDNN
("flash"), or blocks, for long inputs."""

import jax
import jax.numpy as jnp

from .blocked import blocked, is_long
from .eager_attention import Scoring, formula
from .fused import fused
from .mask import AttentionMask

IMPLEMENTATIONS = ("eager", "sdpa", "flash")

_PRECISION = {
    "bfloat16": jax.lax.DotAlgorithmPreset.BF16_BF16_F32,
    "float16": jax.lax.DotAlgorithmPreset.F16_F16_F32,
}
"""Of q k^T under "sdpa", as in `jax.nn.dot_product_attention`: without it the products of the
backward pass are of float32 and 16 bits (jax-ml/jax issue 24047)."""


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
    nothing gets a mean of some values: finite, and of no meaning.

    "eager" and "sdpa" are the formula; "eager" holds all pairs however long the inputs are. The
    formula serves a call for weights or with dropout under any `implementation`, as they exist only
    there. Other long inputs (`is_long`) are computed in blocks, but for those of "flash", which is
    cuDNN's by `jax.nn.dot_product_attention`: it has no soft cap, and leaves a single query to XLA,
    since cuDNN brings nothing there.

    Args:
        q: [B, T, N, H].
        k: [B, S, K, H], with N a multiple of K.
        v: [B, S, K, Hv].
        bias: see `Scoring`, as `sinks` and `softcap`.
        dropout: rate at which weights are dropped, if there is a `dropout_key`.

    Returns:
        [B, T, N, Hv] in the dtype of q, and, if `need_weights`, [B, N, T, S].

    Raises:
        TypeError: a mask that is an array.
        ValueError: shapes that do not fit, a rate that is none, an unknown implementation.
    """
    check_attention(implementation)
    _check(q, k, v, mask, dropout)
    t, s = q.shape[1], k.shape[1]
    scoring = Scoring(scale, softcap, bias, sinks)
    key = dropout_key if dropout > 0 else None
    flash = implementation == "flash" and softcap is None and t > 1
    by_formula = implementation == "eager" or need_weights or key is not None
    if not (by_formula or flash) and is_long(t, s):
        return blocked(q, k, v, mask, scoring), None
    if flash and not by_formula:
        return fused(q, k, v, mask, scoring), None
    gpu_alone = q.dtype == jnp.float16 and jax.default_backend() != "gpu"  # others refuse F16
    precision = None if by_formula or gpu_alone else _PRECISION.get(q.dtype.name)
    seen, given = mask.array(t, s), {"dropout": dropout, "dropout_key": key}
    out, weights = formula(q, k, v, seen, scoring, precision=precision, **given)
    return out, weights if need_weights else None


def _check(q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, dropout: float) -> None:
    (*_, n, h), (*_, heads, width) = q.shape, k.shape
    if not (q.ndim == k.ndim == v.ndim == 4 and k.shape[:3] == v.shape[:3]) or (
        h != width or n % heads
    ):
        raise ValueError(
            f"q, k and v have shapes {q.shape}, {k.shape} and {v.shape}: expected [B, T, N, H], "
            "[B, S, K, H] and [B, S, K, Hv], with N a multiple of K"
        )
    if not isinstance(mask, AttentionMask):
        raise TypeError(
            f"mask is a {type(mask).__name__}; give AttentionMask(tokens=bool [B, 1, T or 1, S])"
        )
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout is {dropout}; expected a rate from 0 to 1")
