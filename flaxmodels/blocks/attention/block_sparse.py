"""Block-sparse attention: of blocks of tokens, the first and the last attend to all, and all attend
to them; the others attend to themselves, to the two beside them, and to some drawn ones.

Time and memory grow with T. Zaheer et al. 2020, arXiv:2007.14062; reference: `models/big_bird` of
Transformers 5.23, where the drawn blocks are all the first one outside of training, whose keys then
count several times.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...params.tree.cast import at_least_float32
from .eager_attention import Scoring, formula


def block_sparse(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    tokens: jax.Array | None,
    *,
    size: int,
    count: int,
    scale: float,
    drawn: jax.Array | None = None,
    need_weights: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
    """Computes [B, T, N, Hv] for q [B, T, N, H], k [B, T, N, H] and v [B, T, N, Hv], of at least 5
    blocks, the last of which is filled up with padding. What padding puts out is 0.

    Args:
        tokens: bool [B or 1, 1, 1, T], which are tokens; None for all.
        size: tokens in a block.
        count: blocks that each block but the first and the last draws.
        drawn: int32 [N, blocks - 2, `count`], which these are; None for the first one, every time.
        need_weights: also return weights [B, N, T, T], all computed: of keys that count several
            times, what they weigh once.

    Raises:
        ValueError: a mask over pairs of tokens.
    """
    length = q.shape[1]
    if tokens is not None and tokens.shape[2] != 1:
        raise ValueError(
            f"attention_mask is over pairs of {length} tokens: block-sparse attention needs one "
            f"over tokens, [B, {length}]"
        )
    blocks, weights = -(-length // size), None
    if need_weights:
        block = np.arange(length) // size
        times = _times(blocks, count, drawn)[:, block[:, None], block[None]][None]
        seen = times > 0 if tokens is None else (times > 0) & tokens
        times = jnp.maximum(times, 1).astype(jnp.float32)
        bias = jnp.broadcast_to(jnp.log(times), (1, q.shape[2], length, length))
        out, weights = formula(q, k, v, seen, Scoring(scale, bias=bias))
        weights = weights / times.astype(weights.dtype)
    else:
        out = _by_blocks(q, k, v, tokens, size, count, scale, drawn)
    return out if tokens is None else jnp.where(tokens[:, 0, 0, :, None, None], out, 0), weights


def _times(blocks: int, count: int, drawn: jax.Array | None) -> jax.Array:
    """Returns how often each block of queries reads each block of keys, int [1 or N, C, C]."""
    number = np.arange(blocks)
    times = (np.abs(number[:, None] - number[None]) <= 1).astype(np.int32)
    times[[0, -1]] = 1
    times[:, [0, -1]] = 1
    if drawn is None:
        times[1:-1, 0] += count
        return jnp.asarray(times)[None]
    more = jax.nn.one_hot(drawn, blocks, dtype=jnp.int32).sum(2)
    return jnp.asarray(times)[None] + jnp.pad(more, ((0, 0), (1, 1), (0, 0)))


class _Read(NamedTuple):
    """What the blocks of queries between the first and the last read.

    Attributes:
        form: axes of keys and values, as an einsum has them: "bknh", or "bmknh" and "nmbkh" if each
            block of queries m reads its own.
        keys, values: of these axes.
        seen: which are tokens; broadcasts to [B, N, blocks - 2, size, S].
        times: how often each counts.
    """

    form: str
    keys: jax.Array
    values: jax.Array
    seen: jax.Array
    times: int = 1


def _by_blocks(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    tokens: jax.Array | None,
    size: int,
    count: int,
    scale: float,
    drawn: jax.Array | None,
) -> jax.Array:
    batch, length, heads, _ = q.shape
    blocks = -(-length // size)
    more = blocks * size - length
    q, k, v = (jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))) for x in (q, k, v))
    known = jnp.ones((1, length), bool) if tokens is None else tokens[:, 0, 0]
    known = jnp.pad(known, ((0, 0), (0, more)))
    ends = jnp.concatenate([q[:, :size], q[:, -size:]], axis=1)
    ends, _ = formula(ends, k, v, known[:, None, None], Scoring(scale))

    q, k, v = (x.reshape(batch, blocks, size, heads, -1) for x in (q, k, v))
    known = known.reshape(known.shape[0], blocks, size)
    first, last = (known[:, i, None, None, None] for i in (0, -1))
    inner = known.at[:, jnp.array((0, -1))].set(False)  # the ends are no neighbours once more
    reads = [
        _Read("bknh", k[:, 0], v[:, 0], first, 1 + (count if drawn is None else 0)),
        _Read("bknh", k[:, -1], v[:, -1], last),
        _Read("bmknh", _beside(k), _beside(v), _beside(inner)[:, None, :, None]),
    ]
    if drawn is not None:
        seen = known[:, drawn].reshape(-1, *drawn.shape[:2], 1, count * size)
        reads.append(_Read("nmbkh", _taken(k, drawn), _taken(v, drawn), seen))
    out = _attended(q[:, 1:-1], reads, scale).reshape(batch, -1, heads, v.shape[-1])
    return jnp.concatenate([ends[:, :size], out, ends[:, size:]], axis=1)[:, :length]


def _attended(q: jax.Array, reads: list[_Read], scale: float) -> jax.Array:
    """Computes the attention of q [B, M, size, N, H] over what it reads: [B, M, size, N, Hv]."""
    dtype = at_least_float32(q.dtype)
    logits = []
    for read in reads:
        product = f"bmqnh,{read.form}->bnmqk"
        part = jnp.einsum(product, q, read.keys, preferred_element_type=dtype) * scale
        seen = jnp.broadcast_to(read.seen, part.shape)
        logits.append(jnp.where(seen, part + math.log(read.times), jnp.finfo(dtype).min))
    ends = np.cumsum([part.shape[-1] for part in logits])[:-1]
    weights = jax.nn.softmax(jnp.concatenate(logits, axis=-1)).astype(q.dtype)
    outs = [
        jnp.einsum(f"bnmqk,{read.form}->bmqnh", part, read.values)
        for part, read in zip(jnp.split(weights, ends, axis=-1), reads, strict=True)
    ]
    return functools.reduce(jnp.add, outs)


def _beside(x: jax.Array) -> jax.Array:
    """Returns of x [B, blocks, size, ...], for each block between two others, these three:
    [B, blocks - 2, 3 * size, ...]."""
    return jnp.concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], axis=2)


def _taken(x: jax.Array, drawn: jax.Array) -> jax.Array:
    """Returns the blocks of x [B, blocks, size, N, H] that each head has drawn [N, M, R]:
    [N, M, B, R * size, H]."""
    by_head = jnp.moveaxis(x, 3, 0)  # [N, B, blocks, size, H]
    taken = jax.vmap(lambda x, rows: x[:, rows])(by_head, drawn)  # [N, B, M, R, size, H]
    taken = jnp.moveaxis(taken, 1, 2)
    return taken.reshape(*taken.shape[:3], -1, taken.shape[-1])
