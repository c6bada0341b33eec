"""MPNet: BERT with a bias for distances that all layers share, and RoBERTa's positions.

Song et al. 2020, arXiv:2004.09297; reference: `models/mpnet` of Transformers 5.23.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from .. import blocks
from ..models import config_checks
from ..models.encoders import paths, roberta
from ..models.encoders.branch import Part, at
from ..models.encoders.fields import SizeFields
from ..models.encoders.model import ENCODER_INPUTS, PooledEncoderModel
from ..models.encoders.style import EncoderStyle
from . import classes_of

_ATTENTION = [f"attention/attn/{name}" for name in "qkvo"]
_BIAS = "encoder/relative_attention_bias"
_BUCKETS, _FARTHEST, _PADDING = 32, 128, 1  # which the reference reads from no config


@dataclasses.dataclass(frozen=True, kw_only=True)
class MPNetConfig(SizeFields):
    """`config.json` of an MPNet. Padding is token 1, and stands at position 1, whatever
    `pad_token_id` is."""

    model_type = "mpnet"
    unsupported = {
        **SizeFields.unsupported,
        "relative_attention_num_buckets": (_BUCKETS,),
    }

    vocab_size: int = 30527
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 2

    @property
    def style(self) -> EncoderStyle:
        return super().style.replace(
            attention=paths.Attention(*_ATTENTION, norm="attention/LayerNorm"),
            embeddings=paths.Embeddings(types=None),
            padding_position=_PADDING,
        )

    def validate(self) -> None:
        super().validate()
        why = "all layers share a bias of num_attention_heads heads"
        config_checks.no_pruned_heads(self, why)


class MPNetBackbone(PooledEncoderModel):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]."""

    def parts(self) -> dict[str, Part]:
        cfg = self.config
        heads, std = cfg.num_attention_heads, cfg.initializer_range
        bias = functools.partial(
            blocks.RelativeBias, heads, _BUCKETS, _FARTHEST, both_ways=True, std=std
        )
        return super().parts() | {_BIAS: bias}

    def score_bias(self, mask: blocks.AttentionMask, length: int) -> jax.Array:
        places = jnp.arange(length, dtype=jnp.int32)
        return at(self, _BIAS)(places[None] - places[:, None], self.dtype)[None]


__getattr__ = classes_of(
    MPNetConfig,
    parts=roberta.ROBERTA_CLASSES | {"Model": MPNetBackbone},
    base_model_prefix="mpnet",
    not_taken=ENCODER_INPUTS | {"token_type_ids"},
)
