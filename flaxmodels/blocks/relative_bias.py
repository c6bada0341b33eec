"""T5's relative bias: a learned number for each head and bucket of distances between query and key
(Raffel et al. 2019, arXiv:1910.10683)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ..params.tree.cast import at_least_float32
from .weights.linear import Embed


def bucket_table(buckets: int, max_distance: int) -> np.ndarray:
    """Returns the bucket of the distances 0, 1, ..., `max_distance`, int32; longer ones are in the
    last bucket too. Short distances have a bucket each, half of all, and long ones are spaced by
    their logarithm.

    Where the quotient of two logarithms is a whole number its rounding decides: each step is
    rounded to float32 as the reference does.
    """
    exact = buckets // 2
    distances = np.arange(max_distance + 1)
    quotients = np.maximum(distances, 1).astype(np.float32) / np.float32(exact)
    logs = np.log(quotients.astype(np.float64)).astype(np.float32)
    steps = logs / np.float32(math.log(max_distance / exact)) * np.float32(buckets - exact)
    spaced = exact + steps.astype(np.int32)
    return np.where(distances < exact, distances, np.minimum(spaced, buckets - 1)).astype(np.int32)


def relative_buckets(
    distances: jax.Array, buckets: int, max_distance: int, *, both_ways: bool
) -> jax.Array:
    """Returns the buckets int32 [...] of distances int32 [...] from query to key.

    Args:
        both_ways: half of the buckets is for keys after the query; else those are at distance 0.
    """
    later = jnp.zeros_like(distances)
    if both_ways:
        buckets //= 2
        later = jnp.where(distances > 0, jnp.int32(buckets), 0)
    behind = jnp.abs(distances) if both_ways else jnp.maximum(-distances, 0)
    table = jnp.asarray(bucket_table(buckets, max_distance))
    return later + jnp.take(table, jnp.minimum(behind, max_distance))


class RelativeBias(nn.Module):
    """distances int32 [..., T, S] from queries to keys -> what is added to the scores,
    [..., N, T, S] in `dtype`, or in float32 of a shorter one.

    Attributes:
        heads: N.
        buckets: rows of the table; at least 4, or 2 where `both_ways` is False.
        max_distance: from which on all are in one bucket; more than half of a side's buckets.
        both_ways: see `relative_buckets`.
        std: of the normal from which the table is drawn.
    """

    heads: int
    buckets: int
    max_distance: int
    both_ways: bool
    std: float

    @nn.compact
    def __call__(self, distances: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
        rows = relative_buckets(
            distances, self.buckets, self.max_distance, both_ways=self.both_ways
        )
        # heads are not split over a mesh: there may be fewer than devices, and the table is small
        table = Embed(self.buckets, self.heads, self.std, ("position", None))
        nn.share_scope(self, table)
        return jnp.moveaxis(table(rows, at_least_float32(dtype)), -1, -3)
