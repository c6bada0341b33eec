"""Command R of Cohere: one LayerNorm without bias for attention and MLP side by side, rotation of
neighbours, scaled logits.

Cohere 2024, https://docs.cohere.com/docs/command-r; reference: `models/cohere` of Transformers
5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES, LayerNormDecoderConfig
from ..models.decoder_style import LogitStyle, QKNorm, Style
from ..models.rope_config import one_rope
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandFields(LayerNormDecoderConfig):
    """The fields of both generations."""

    vocab_size: int = 256_000
    hidden_size: int = 8192
    intermediate_size: int = 22528
    num_hidden_layers: int = 40
    num_attention_heads: int = 64
    max_position_embeddings: int = 8192
    attention_bias: bool = False
    logit_scale: float = 0.0625
    pad_token_id: int | None = 0
    bos_token_id: int | None = 5
    eos_token_id: int | tuple[int, ...] | None = 255_001
    tie_word_embeddings: bool = True

    @property
    def style(self) -> Style:
        return super().style.replace(
            norm_bias=False,
            mlp_in=None,
            parallel=True,
            qkv_bias=self.attention_bias,
            out_bias=self.attention_bias,
            rotate_pairs=True,
            logits=LogitStyle(scale=self.logit_scale),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CohereConfig(CommandFields):
    """`config.json` of a Command R."""

    model_type = "cohere"
    rope_rules = one_rope(rope_theta=500_000.0)

    use_qk_norm: bool = False

    @property
    def style(self) -> Style:
        return super().style.replace(qk_norm=QKNorm(over="heads") if self.use_qk_norm else None)


__getattr__ = classes_of(CohereConfig, parts=DECODER_CLASSES)
