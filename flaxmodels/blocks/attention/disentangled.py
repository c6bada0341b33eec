"""Disentangled attention: scores of a query's content with a key's distance, and of a key's content
with its query's.

He et al. 2020, arXiv:2006.03654; reference: `models/deberta_v2` of Transformers 5.23.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ...params.tree.cast import at_least_float32
from ...params.types import Concrete


def distance_rows(queries: int, keys: int, span: int, *, buckets: int, longest: int) -> Concrete:
    """Returns which row of a table of 2 * `span` distances stands for each pair of a query and a
    key: int [T, S], `span` for a key at the query's own place, more for keys before it.

    Args:
        span: rows on either side; what is further away has the last one.
        buckets: of so many rows on either side, the outer half are for distances that grow
            logarithmically up to `longest`; 0 for a row for every distance.
    """
    if isinstance(queries, int) and isinstance(keys, int):
        distance = np.arange(queries)[:, None] - np.arange(keys)[None]
        return _rows_of(distance, span, buckets, longest)
    # Of symbolic lengths there are no numbers: the row is looked up by the distance, in a table up
    # to where rows stay what they are at any length.
    most, last = span, _rows_of(np.array(-(1 << 30)), span, buckets, longest)
    while _rows_of(np.array(-most), span, buckets, longest) != last:
        most *= 2
    table = _rows_of(np.arange(-most, most + 1), span, buckets, longest)
    places = (jnp.arange(length, dtype=jnp.int32) for length in (queries, keys))
    distance = jnp.subtract.outer(*places)
    return jnp.take(jnp.asarray(table), jnp.clip(distance, -most, most) + most)


def _rows_of(distance: np.ndarray, span: int, buckets: int, longest: int) -> np.ndarray:
    if buckets > 0:
        distance = _log_bucket(distance, buckets, longest)
    return np.clip(distance + span, 0, 2 * span - 1)


def _log_bucket(distance: np.ndarray, buckets: int, longest: int) -> np.ndarray:
    middle = buckets // 2
    near = np.abs(distance) <= middle
    # in float32 as the reference computes them, or some distances would be in the next bucket
    size = np.where(near, middle, np.abs(distance)).astype(np.float32) / np.float32(middle)
    scale = np.log(np.float32((longest - 1) / middle))
    far = np.ceil(np.log(size) / scale * np.float32(middle - 1)) + middle
    return np.where(near, distance, np.sign(distance) * far).astype(np.int32)


def disentangled_scores(
    q: jax.Array,
    k: jax.Array,
    rows: Concrete,
    *,
    key_table: jax.Array | None,
    query_table: jax.Array | None,
) -> jax.Array:
    """Returns q . key_table[rows] + k . query_table[rows]: [B, N, T, S].

    Args:
        q: [B, T, N, H].
        k: [B, S, N, H].
        rows: int [T, S], of `distance_rows`.
        key_table: [R, N, H], distances as queries see them; None to leave them out.
        query_table: [R, N, H], distances as keys see them; None to leave them out.
    """
    dtype = at_least_float32(q.dtype)
    scores = jnp.zeros((), dtype)
    if key_table is not None:
        each = jnp.einsum("BTNH,RNH->BNTR", q, key_table, preferred_element_type=dtype)
        scores = scores + jnp.take_along_axis(each, jnp.asarray(rows)[None, None], axis=-1)
    if query_table is not None:
        each = jnp.einsum("BSNH,RNH->BNSR", k, query_table, preferred_element_type=dtype)
        seen = jnp.take_along_axis(each, jnp.asarray(rows.T)[None, None], axis=-1)
        scores = scores + jnp.swapaxes(seen, 2, 3)
    return scores
