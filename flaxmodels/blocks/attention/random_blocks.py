"""Which blocks of keys a block of queries draws in training, as the reference draws them: by the
legacy generator of NumPy, whose stream is fixed, seeded with the layer's number.

Zaheer et al. 2020, arXiv:2007.14062; reference: `models/big_bird` of Transformers 5.23.
"""

import functools

import numpy as np

_PAPER_LENGTHS = (1024, 3072, 4096)
"""Lengths whose draws are those of a text of as many tokens as there are positions, cut."""
_PAPER_REACH = 1024
"""Of such a text, the blocks that are drawn begin before this token, if it has more than two."""


@functools.lru_cache(maxsize=16)
def drawn_blocks(
    layers: int, heads: int, blocks: int, size: int, count: int, positions: int
) -> np.ndarray:
    """Draws `count` blocks for each block of queries but the first and the last: int32
    [layers, heads, blocks - 2, count]. Those that it reads anyway are seldom among them.

    Args:
        blocks: how many the text has, more than 5 + 2 * `count`.
        size: tokens in a block.
        positions: how many the model has.

    Raises:
        ValueError: a text of a length of the paper, of blocks so large that there are too few to
            draw from.
    """
    drawn = np.empty((layers, heads, blocks - 2, count), np.int32)
    for layer in range(layers):
        rng = np.random.RandomState(layer)
        if blocks * size in _PAPER_LENGTHS:
            for head in range(heads):
                rows = [_drawn_of(rng, pool, count) for pool in _pools(positions // size, size)]
                drawn[layer, head] = rows[: blocks - 2]
        else:
            for row in range(1, blocks - 1):
                for head in range(heads):
                    drawn[layer, head, row - 1] = _drawn_near_the_start(rng, row, count)
    return drawn


def _drawn_near_the_start(rng: np.random.RandomState, row: int, count: int) -> np.ndarray:
    """Draws from the first 2 * `count` + 5 blocks, without those of the window and the outer two.
    The second one from either end does not draw the second one from the other end."""
    among = 2 * count + 5
    read = {row - 1, row, row + 1, 0, among - 1}
    read |= {1: {among - 2}, among - 2: {1}}.get(row, set())
    order = rng.permutation(among)
    return order[~np.isin(order, list(read))][:count]


def _pools(blocks: int, size: int) -> list[np.ndarray]:
    """Returns for each block but the first and the last those that are drawn from, as numbers of a
    text of so many blocks. The bounds are the reference's, one off from the window's here and
    there."""
    middle = np.arange(1, blocks - 1)
    last = _PAPER_REACH // size - 1 if _PAPER_REACH > 2 * size else blocks - 1
    pools = []
    for row in range(1, blocks - 1):
        if row <= 2:
            pool = middle[row + 1 : last]
        elif row >= blocks - 3 or row - 2 > last:
            pool = middle[:last]
        elif row + 1 == last:
            pool = middle[: row - 2]
        else:
            pool = np.concatenate((middle[: row - 2], middle[row + 1 : last]))
        pools.append(pool)
    return pools


def _drawn_of(rng: np.random.RandomState, pool: np.ndarray, count: int) -> np.ndarray:
    """Draws `count` of a pool, or all the same one if it is the only one."""
    drawn = rng.permutation(pool)[:count]
    if len(drawn) not in (1, count):
        raise ValueError(
            f"block-sparse attention draws {count} blocks in training, and at this length there "
            f"are {len(drawn)} to draw from: lower block_size or num_random_blocks"
        )
    return np.broadcast_to(drawn, count)
