"""Positions that are computed: sines in the first half of a vector, cosines in the second.

Vaswani et al. 2017, arXiv:1706.03762, where they take turns.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np


def sinusoids(rows: jax.Array, width: int, pad: int | None) -> jax.Array:
    """Returns the sinusoids of fairseq of rows int32 [B, T] -> float32 [B, T, width], 0 in row
    `pad`. Frequencies are 10000**(-i / (width // 2 - 1)), computed in float32 as there."""
    half = width // 2
    step = np.float32(-math.log(10_000) / (half - 1))
    frequencies = np.exp(np.arange(half, dtype=np.float32) * step)
    angles = rows[..., None].astype(jnp.float32) * frequencies[None, None]
    table = jnp.concatenate((jnp.sin(angles), jnp.cos(angles)), axis=-1)
    table = jnp.pad(table, ((0, 0), (0, 0), (0, width % 2)))
    return table if pad is None else jnp.where(rows[..., None] == pad, 0, table)


@functools.lru_cache(maxsize=8)
def sinusoid_table(rows: int, width: int) -> np.ndarray:
    """Makes the sinusoids of Marian, Pegasus and RoFormer: float32 [rows, width]. Frequencies are
    10000**(-2i / width), computed in float64 as there."""
    columns = np.arange(width)
    angles = np.arange(rows)[:, None] / 10_000 ** (2 * (columns // 2) / width)
    halves = np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])
    return np.concatenate(halves, axis=1).astype(np.float32)


def counted(ids: jax.Array | None, positions: jax.Array, pad: int, start: jax.Array | int):
    """Returns the rows int32 [B or 1, T] that fairseq counts: tokens stand at pad + 1, pad + 2, ...
    in order, and padding, which takes no place, in row `pad`.

    Args:
        ids: [B, T]; None where vectors are given, none of which is padding.
        positions: of vectors, from 0 on.
        start: how many tokens there were before.
    """
    if ids is None:
        return positions + (pad + 1)
    there = (jnp.asarray(ids) != pad).astype(jnp.int32)
    return (jnp.cumsum(there, axis=1, dtype=jnp.int32) + start) * there + pad
