"""ALiBi: a bias that falls with the distance between query and key, steeper from head to head
(Press et al. 2022, arXiv:2108.12409)."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def alibi_slopes(heads: int) -> np.ndarray:
    """Returns the slope of each head, float32 [N]: 2^(-8/N), 2^(-16/N), ... for a power of two;
    else those of the power below N, then every other one of the power above."""
    below = 2 ** math.floor(math.log2(heads))
    of = lambda count: 2.0 ** (-8 / count * np.arange(1, count + 1))  # noqa: E731
    return np.concatenate([of(below), of(2 * below)[::2][: heads - below]]).astype(np.float32)


def alibi(
    heads: int,
    tokens: jax.Array | None,
    keys: int,
    *,
    rounded: jax.typing.DTypeLike = jnp.float32,
) -> jax.Array:
    """Returns slope times place of key, float32 [B or 1, N, 1, S]: what this lacks of the distance
    to the query is equal for all keys, and cancels in the softmax.

    Args:
        tokens: bool [B or 1, 1, 1, S], of `AttentionMask`; only tokens count as places. None: all.
        keys: S.
        rounded: the dtype to which slopes, places and products are rounded; bfloat16 in Falcon.
    """

    def rounding(x: jax.Array) -> jax.Array:
        bits = jnp.finfo(rounded)  # XLA may leave out a cast there and back
        return jax.lax.reduce_precision(x.astype(jnp.float32), bits.nexp, bits.nmant)

    tokens = jnp.ones((1, 1, 1, keys), bool) if tokens is None else tokens
    places = (jnp.cumsum(tokens, axis=-1, dtype=jnp.int32) - 1) * tokens.astype(jnp.int32)
    slopes = jnp.asarray(alibi_slopes(heads))[None, :, None, None]
    return rounding(rounding(slopes) * rounding(places))
