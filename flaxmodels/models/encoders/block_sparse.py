"""The layer of encoders whose attention is block-sparse where texts are long.

Zaheer et al. 2020, arXiv:2007.14062.
"""

from typing import Unpack

import jax
import jax.numpy as jnp

from ... import blocks
from ... import sharding as fs
from ...config.config import Config
from ...params.errors import warn_once
from .layers import EncoderLayer


class BlockSparseLayer(EncoderLayer):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None). Its config says for how
    many tokens attention is by blocks (`attends_by_blocks`), and of which; which are drawn is the
    layer's input, None for the first one every time."""

    def self_attention(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        context: blocks.PassContext,
        at: blocks.At,
        bias: jax.Array | None,
        **told: Unpack[blocks.Scored],
    ) -> tuple[jax.Array, blocks.Cache | None, jax.Array | None]:
        cfg = self.config
        if not cfg.attends_by_blocks(q.shape[1]):
            return super().self_attention(q, k, v, context, at, bias, **told)
        axes = ("batch", "length", "heads", None)
        q, k, v = (fs.constrain(x, axes, self.options.rules) for x in (q, k, v))
        q, k, v = blocks.named((q, k, v), "attention_qkv")
        out, weights = blocks.block_sparse(
            q,
            k,
            v,
            context.masks[at.kind.attention].tokens,
            size=cfg.block_size,
            count=cfg.num_random_blocks,
            scale=told["scale"],
            drawn=context.layer_inputs,
            need_weights=context.output_attentions,
        )
        out, weights = blocks.scaled_heads(out, weights, context, at)
        return blocks.named(out, "attention_out"), context.cache, weights


def drawn(config: Config, length: int) -> jax.Array:
    """Returns the blocks that each layer draws in training, for so many tokens: int32 [L, N,
    blocks - 2, R]."""
    table = blocks.drawn_blocks(
        config.num_hidden_layers,
        config.num_attention_heads,
        -(-length // config.block_size),
        config.block_size,
        config.num_random_blocks,
        config.max_position_embeddings,
    )
    return jnp.asarray(table)


def tell(config: Config, length: int, name: str) -> None:
    """Warns, once, where so many tokens are too few for blocks, or fill the last one up."""
    size = config.block_size
    if not config.attends_by_blocks(length):
        warn_once(
            f"{name}: up to {config.full_length} tokens attend in full: (5 + 2 * "
            "num_random_blocks) * block_size; config.attention_type = 'original_full' is for that"
        )
    elif more := -length % size:
        warn_once(
            f"{name}: {length} tokens are no multiple of block_size = {size}; {more} of padding "
            "fill up the last block"
        )
