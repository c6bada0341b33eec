"""LongT5: T5 whose encoder attends by blocks, so that its time grows with the length.

Guo et al. 2021, arXiv:2112.07916; reference: `models/longt5` of Transformers 5.23.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from ..models import config_checks
from ..models.encoder_decoders import longt5_layers as layers
from ..models.encoder_decoders import t5
from ..models.encoder_decoders.t5_config import ScaledHead
from ..models.encoder_decoders.t5_layers import relative_bias
from . import classes_of

_LAYERS = {"local": layers.LocalLayer, "transient-global": layers.TransientGlobalLayer}


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
        far = layers.block_distances(self.config.local_radius + 1)
        return self.relative_attention_bias(far, self.dtype)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        cfg = self.config
        if cfg.encoder_attention_type == "transient-global":
            (mask,), size = context.masks.values(), cfg.global_block_size
            numbers = layers.sum_numbers(layers.tokens_of(mask, *x.shape[:2]), size)
            sums = jnp.arange(x.shape[1] // size, dtype=jnp.int32)
            far = sums[None, None] - numbers[..., None]
            side = self.global_relative_attention_bias(far, self.dtype)
            side = jnp.moveaxis(layers.in_blocks(side, cfg.local_radius + 1, axis=2), 1, 2)
            context = context._replace(biases={**context.biases, layers.SIDE: side})
        return super().run_layers(x, context)


class LongT5Pretrained(t5.T5Pretrained):
    """The base of every model of the family."""

    config_class = LongT5Config
    encoder_class = LongT5Encoder

    @property
    def encoder_attention(self) -> str:
        return _LAYERS[self.config.encoder_attention_type].inside


__getattr__ = classes_of(LongT5Config, parts=t5.T5_CLASSES)
