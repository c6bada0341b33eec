"""LongT5: T5 whose encoder attends by blocks, so that its time grows with the length.

Guo et al. 2021, arXiv:2112.07916; reference: `models/longt5` of Transformers 5.23.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from ..core.model import by_config
from ..models import config_checks
from ..models.encoder_decoders import t5
from ..models.encoder_decoders.t5_config import ScaledHead
from ..models.encoder_decoders.t5_layers import T5Attention, T5Layer, relative_bias
from ..params.tree.cast import at_least_float32
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongT5Config(ScaledHead):
    """`config.json` of a LongT5."""

    model_type = "longt5"

    local_radius: int = 127
    global_block_size: int = 16
    encoder_attention_type: str = "local"

    def validate(self) -> None:
        super().validate()
        config_checks.one_of(self, "encoder_attention_type", _LAYERS)


Sums = tuple[jax.Array, jax.Array, jax.Array]

SIDE = "side"
"""The name of the bias of sums among those of a context."""


def in_blocks(x: jax.Array, size: int, axis: int = 1) -> jax.Array:
    """Cuts an axis into blocks, [..., T, ...] -> [..., C, size, ...], the last one filled up with
    zeros."""
    count = -(-x.shape[axis] // size)
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, count * size - x.shape[axis])
    return jnp.pad(x, widths).reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])


def with_neighbours(x: jax.Array) -> jax.Array:
    """Puts each block [B, C, L, ...] between the one before and the one after, [B, C, 3L, ...];
    beyond the first and the last are zeros."""
    x = jnp.pad(x, [(0, 0), (1, 1), *[(0, 0)] * (x.ndim - 2)])
    return jnp.concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], axis=2)


def block_distances(size: int) -> jax.Array:
    """Returns int32 [L, 3L]: how far after each query of a block of L = `size` each key stands."""
    keys = jnp.arange(3 * size, dtype=jnp.int32)
    return keys[None] - keys[size : 2 * size, None]


def near(tokens: jax.Array, size: int) -> jax.Array:
    """Returns bool [B, C, L, 3L] of blocks of L = `size`: which pairs are of tokens, as bool [B, T]
    says, that are less than L apart."""
    own = in_blocks(tokens, size)
    pairs = own[..., None] & with_neighbours(own)[:, :, None]
    return pairs & (jnp.abs(block_distances(size)) < size)[None, None]


def tokens_of(mask: blocks.AttentionMask, batch: int, length: int) -> jax.Array:
    """Returns bool [B, T], which are tokens.

    Raises:
        ValueError: a mask over pairs of them.
    """
    if mask.tokens is None:
        return jnp.ones((batch, length), bool)
    if mask.tokens.shape[2] > 1:
        raise ValueError(
            f"attention_mask is over pairs of {length} tokens: this encoder attends by blocks; "
            f"give one over tokens, [{batch}, {length}]"
        )
    return jnp.broadcast_to(mask.tokens[:, 0, 0], (batch, length))


def sum_numbers(tokens: jax.Array, size: int) -> jax.Array:
    """Returns int32 [B, T]: which sum each of tokens bool [B, T] is in, -1 for padding. Each is of
    `size` places, and what is left behind the last whole one is in that too. Where the first whole
    one is not the first of the row, the numbers end as early as they begin late; so they do in the
    reference."""
    places = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    ends = tokens & (places % size == size - 1)
    last = ends.sum(axis=1, keepdims=True, dtype=jnp.int32) - 1
    return jnp.minimum(jnp.where(tokens, places // size, -1), last)


class LocalAttention(T5Attention):
    """Attention to tokens alone."""

    def setup(self) -> None:
        super().setup()
        self.drop = nn.Dropout(self.config.dropout_rate)

    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        size = self.config.local_radius + 1
        tokens = tokens_of(context.masks[at.kind.attention], *x.shape[:2])
        q, k, v = blocks.named((self.heads(self.q, x), *self.keys_and_values(x)), "attention_qkv")
        q, k, v = (in_blocks(y, size) for y in (q, k, v))
        k, v = with_neighbours(k), with_neighbours(v)
        dtype = at_least_float32(x.dtype)
        scores = jnp.einsum("BCQNH,BCKNH->BCNQK", q, k, preferred_element_type=dtype)
        bias = context.biases[at.kind.attention][None, None]
        scores = _masked(scores + jnp.broadcast_to(bias, scores.shape), near(tokens, size))
        side_v = None
        if (sums := self.sums(x, tokens)) is not None:
            side_k, side_v, there = sums
            side = jnp.einsum("BCQNH,BGNH->BCNQG", q, side_k, preferred_element_type=scores.dtype)
            # padding, which matters to nobody, attends to sums that are not there, as it does in
            # the reference, and what fills up the last block to all
            unseen = in_blocks(tokens[..., None] != there[:, None], size)
            side = _masked(side + context.biases[SIDE], ~unseen)
            scores = jnp.concatenate([scores, side], axis=-1)
        weights = jax.nn.softmax(scores).astype(x.dtype)
        weights = self.drop(weights, deterministic=context.deterministic)
        out = jnp.einsum("BCNQK,BCKNH->BCQNH", weights[..., : 3 * size], v)
        if side_v is not None:
            out = out + jnp.einsum("BCNQG,BGNH->BCQNH", weights[..., 3 * size :], side_v)
        out = out.reshape(x.shape[0], -1, q.shape[3] * q.shape[4])[:, : x.shape[1]]
        out = blocks.named(out, "attention_out")
        return self.o(out), context.cache, weights if context.output_attentions else None

    def sums(self, x: jax.Array, tokens: jax.Array) -> Sums | None:
        """Returns keys and values [B, G, N, H] of sums of x [B, T, D], and bool [B, G], which of
        them are there; None for none."""
        return None


class TransientGlobalAttention(LocalAttention):
    """Attention to tokens, and to sums of blocks of `global_block_size` tokens."""

    def setup(self) -> None:
        super().setup()
        self.global_input_layer_norm = blocks.RMSNorm(self.config.layer_norm_epsilon)

    def sums(self, x: jax.Array, tokens: jax.Array) -> Sums | None:
        size = self.config.global_block_size
        count, numbers = x.shape[1] // size, sum_numbers(tokens, size)
        members = jax.nn.one_hot(numbers, count, dtype=x.dtype)
        sums = self.global_input_layer_norm(jnp.einsum("BTD,BTG->BGD", x, members))
        there = jnp.arange(count, dtype=jnp.int32)[None] <= numbers.max(axis=1, keepdims=True)
        return *self.keys_and_values(sums), there


class LocalLayer(T5Layer):
    attention = LocalAttention
    inside = "LocalSelfAttention"


class TransientGlobalLayer(T5Layer):
    attention = TransientGlobalAttention
    inside = "TransientGlobalSelfAttention"


def _masked(scores: jax.Array, seen: jax.Array) -> jax.Array:
    """Masks scores [B, C, N, Q, K] where bool [B, C, Q, K] is False."""
    lowest = jnp.finfo(scores.dtype).min
    return jnp.where(jnp.broadcast_to(seen[:, :, None], scores.shape), scores, lowest)


_LAYERS = {"local": LocalLayer, "transient-global": TransientGlobalLayer}


class LongT5Encoder(t5.T5Stack):
    """tokens [B, T] -> hidden states [B, T, D]. Attention weights are by blocks of L =
    `local_radius` + 1 tokens: [B, C, N, L, 3L], or [..., 3L + G] with G sums of tokens."""

    def setup(self) -> None:
        super().setup()
        if self.config.encoder_attention_type == "transient-global":
            self.global_relative_attention_bias = relative_bias(self.config, both_ways=True)

    @property
    def layer(self) -> type[nn.Module]:
        return _LAYERS[self.config.encoder_attention_type]

    def score_bias(self, mask: blocks.AttentionMask, length: int) -> jax.Array:
        far = block_distances(self.config.local_radius + 1)
        return self.relative_attention_bias(far, self.dtype)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        cfg = self.config
        if cfg.encoder_attention_type == "transient-global":
            (mask,), size = context.masks.values(), cfg.global_block_size
            numbers = sum_numbers(tokens_of(mask, *x.shape[:2]), size)
            sums = jnp.arange(x.shape[1] // size, dtype=jnp.int32)
            far = sums[None, None] - numbers[..., None]
            side = self.global_relative_attention_bias(far, self.dtype)
            side = jnp.moveaxis(in_blocks(side, cfg.local_radius + 1, axis=2), 1, 2)
            context = context._replace(biases={**context.biases, SIDE: side})
        return super().run_layers(x, context)


__getattr__ = classes_of(
    LongT5Config,
    parts=t5.T5_CLASSES,
    encoder_class=LongT5Encoder,
    encoder_attention=by_config(lambda self: _LAYERS[self.config.encoder_attention_type].inside),
)
