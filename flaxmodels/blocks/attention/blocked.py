"""Attention of long inputs in blocks of queries and keys, with a running softmax.

The logits of one block exist at a time, so memory grows with T and not with T x S: in the backward
pass too, which computes each block again. Blocks where the mask's rule allows no pair are skipped.
Both loops are `lax.scan`s: the program does not grow with the length.

Milakov and Gimelshein 2018, arXiv:1805.02867; Rabe and Staats 2021, arXiv:2112.05682.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import sharding as fs
from ...params.tree.cast import at_least_float32
from ...params.types import Concrete
from .eager_attention import Scoring, grouped
from .mask import AttentionMask, Reach

BLOCK = (128, 512)
"""Queries and keys of a block."""

_PAIRS = {"cpu": 1024**2}
_PAIRS_ELSEWHERE = 8192**2


def is_long(queries: int, keys: int) -> bool:
    """Tells whether attention over so many queries and keys is computed in blocks.

    On a CPU 1024 tokens are already faster so (`bench_attention.py`, docs/benchmarks.md). Other
    backends were not measured; there blocks begin where the logits of one head would take 256 MiB.
    """
    if not (isinstance(queries, int) and isinstance(keys, int)):
        return False  # a symbolic length may be anything
    return queries >= 64 and queries * keys >= _PAIRS.get(jax.default_backend(), _PAIRS_ELSEWHERE)


class _Queries(NamedTuple):
    """What differs between blocks of queries; stacked over them for the outer loop.

    Attributes:
        q: [B, Tq, K, G, H].
        places: int32 [Tq].
        first: int32 [], the first block of keys that is visited.
        visited: bool [visits], which blocks from there on are.
        tables: those that have a row for each query, over all blocks of keys.
    """

    q: jax.Array
    places: jax.Array
    first: jax.Array
    visited: jax.Array
    tables: "_Tables"


class _Tables(NamedTuple):
    """What is given of pairs: `tokens` of the mask and `bias`, [B or 1, N or 1, T or 1, S]."""

    tokens: jax.Array | None
    bias: jax.Array | None


class _Keys(NamedTuple):
    """What differs between blocks of keys: [B, Sk, K, H], [B, Sk, K, Hv], int32 [Sk], tables."""

    k: jax.Array
    v: jax.Array
    places: jax.Array
    tables: _Tables


class _Softmax(NamedTuple):
    """A softmax under way: of the keys that each query has seen, the greatest logit, the sum of
    exp(logit - greatest) [B, K, G, Tq], and the sum of those times the values [..., Hv]."""

    greatest: jax.Array
    total: jax.Array
    values: jax.Array


def blocked(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: AttentionMask,
    scoring: Scoring,
    *,
    block: tuple[int, int] = BLOCK,
) -> jax.Array:
    """Computes [B, T, N, Hv] as `formula` does, in blocks."""
    (b, t, n, h), (s, heads) = q.shape, k.shape[1:3]
    block = (min(block[0], t), min(block[1], s))
    first, visited = _visits(mask, t, s, block)
    query_places, key_places = mask.places(t, s)
    tables = _Tables(mask.tokens, scoring.bias)
    tables = _Tables(*(None if x is None else _cut(x, 3, block[1]) for x in tables))
    # of shape [blocks of keys, B or 1, N or 1, T or 1, Sk]
    by_query = _Tables(*(x if x is not None and x.shape[3] > 1 else None for x in tables))
    queries = _Queries(
        _cut(q.reshape(b, t, heads, n // heads, h), 1, block[0]),
        _cut(query_places, 0, block[0]),
        first,
        visited,
        jax.tree.map(lambda x: _cut(x, 3, block[0]), by_query),
    )
    keys = _Keys(
        _cut(k, 1, block[1]), _cut(v, 1, block[1]), _cut(key_places, 0, block[1], -1), tables
    )

    def attend(queries: _Queries) -> jax.Array:
        own = (y if x is None else x for x, y in zip(queries.tables, keys.tables, strict=True))
        return _of_queries(queries, keys._replace(tables=_Tables(*own)), mask, scoring)

    out = jax.lax.map(jax.checkpoint(attend, prevent_cse=False), queries)
    # [blocks of queries, B, K, G, Tq, Hv]
    out = out.transpose(1, 0, 4, 2, 3, 5).reshape(b, -1, n, v.shape[3])
    return out[:, :t]


def _of_queries(queries: _Queries, keys: _Keys, mask: AttentionMask, scoring: Scoring) -> jax.Array:
    """Computes the output of a block of queries, [B, K, G, Tq, Hv]."""
    visits = queries.visited.shape[0]
    if visits < keys.k.shape[0]:
        cut = jax.lax.dynamic_slice_in_dim
        keys = jax.tree.map(lambda x: cut(x, queries.first, visits), keys)

    def step(softmax: _Softmax, at: tuple[jax.Array, _Keys]) -> tuple[_Softmax, None]:
        visited, some = at
        add = lambda softmax, some: _added(softmax, queries, some, mask, scoring)  # noqa: E731
        return jax.lax.cond(visited, add, lambda softmax, _: softmax, softmax, some), None

    start = fs.varying(_start(queries.q, keys.v, scoring.sinks), over=(queries, keys))
    step = jax.checkpoint(step, prevent_cse=False)
    end, _ = jax.lax.scan(step, start, (queries.visited, keys))
    return (end.values / end.total[..., None]).astype(queries.q.dtype)


def _start(q: jax.Array, v: jax.Array, sinks: jax.Array | None) -> _Softmax:
    """Returns the softmax of no key but the sink."""
    b, t, heads, group, _ = q.shape
    shape, dtype = (b, heads, group, t), at_least_float32(q.dtype)
    values = jnp.zeros((*shape, v.shape[-1]), dtype)
    if sinks is None:
        return _Softmax(jnp.full(shape, _lowest(dtype)), jnp.zeros(shape, dtype), values)
    sinks = sinks.astype(dtype).reshape(1, heads, group, 1)
    greatest = jax.lax.stop_gradient(sinks)
    total = jnp.exp(sinks - greatest)  # 1, with a gradient
    return _Softmax(jnp.broadcast_to(greatest, shape), jnp.broadcast_to(total, shape), values)


def _added(
    softmax: _Softmax, queries: _Queries, keys: _Keys, mask: AttentionMask, scoring: Scoring
) -> _Softmax:
    """Adds a block of keys to the softmax of a block of queries."""
    logits = scoring._replace(bias=keys.tables.bias).logits(queries.q, keys.k)
    mask = AttentionMask(mask.rule, keys.tables.tokens, queries.places, keys.places)
    seen = mask.array(*logits.shape[-2:])
    if seen is not None:
        logits = jnp.where(grouped(seen, logits.shape), logits, _lowest(logits.dtype))
    # What is subtracted cancels in the quotient of both sums, so that it needs no gradient.
    greatest = jax.lax.stop_gradient(jnp.maximum(softmax.greatest, logits.max(-1)))
    fade = jnp.exp(softmax.greatest - greatest)
    powers = jnp.exp(logits - greatest[..., None])
    values = jnp.einsum(
        "BKGTS,BSKH->BKGTH",
        powers.astype(keys.v.dtype),
        keys.v,
        preferred_element_type=powers.dtype,
    )
    return _Softmax(
        greatest,
        softmax.total * fade + powers.sum(-1),
        softmax.values * fade[..., None] + values,
    )


def _lowest(dtype: jnp.dtype) -> jax.Array:
    """Returns the logit of what is masked: half of the least number, so that differences from it
    are finite."""
    return jnp.asarray(jnp.finfo(dtype).min / 2, dtype)


def _visits(
    mask: AttentionMask, queries: int, keys: int, block: tuple[int, int]
) -> tuple[Any, Any]:
    """Returns, for each block of queries, the first block of keys that it visits, and whether it
    visits each from there on.

    Where places are known while tracing no more blocks are listed than some block of queries
    visits; else the list has all, and which are visited is computed.
    """
    reach = Reach() if mask.rule is None else mask.rule.reach
    places = (np.arange(queries), np.arange(keys)) if mask.in_order else mask.places(queries, keys)
    (low, high), (key_low, key_high) = (
        _ends(p, size) for p, size in zip(places, block, strict=True)
    )
    visited = np.ones((len(low), len(key_low)), bool)
    if reach.behind is not None:
        visited = visited & (key_high[None] >= low[:, None] - reach.behind)
    if reach.ahead is not None:
        visited = visited & (key_low[None] <= high[:, None] + reach.ahead)
    if not isinstance(visited, np.ndarray):
        return jnp.zeros(len(low), jnp.int32), visited
    first = visited.argmax(1)
    visits = (visited.shape[1] - visited[:, ::-1].argmax(1) - first).max()
    first = np.minimum(first, visited.shape[1] - visits)
    listed = first[:, None] + np.arange(visits)[None]
    return first.astype(np.int32), np.take_along_axis(visited, listed, axis=1)


def _ends(places: Any, size: int) -> tuple[Concrete, Concrete]:
    """Returns the least and the greatest place of each block."""
    pad = np.pad if isinstance(places, np.ndarray) else jnp.pad
    blocks = pad(places, (0, -len(places) % size), mode="edge").reshape(-1, size)
    return blocks.min(1), blocks.max(1)


def _cut(x: jax.Array, axis: int, size: int, fill: int = 0) -> jax.Array:
    """Cuts an axis into blocks of `size`, the last one filled up, and puts the number of the block
    in front."""
    count = -(-x.shape[axis] // size)
    missing = count * size - x.shape[axis]
    if missing:
        widths = [(0, missing if i == axis else 0) for i in range(x.ndim)]
        x = jnp.pad(x, widths, constant_values=fill)
    x = x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis, 0)
