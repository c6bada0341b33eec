"""Command R of Cohere: one LayerNorm without bias for attention and MLP side by side, rotation of
neighbours, scaled logits. Cohere 2 has three windows to one full layer, and rotates in the windows
alone.

Cohere 2025, arXiv:2504.00698; reference: `models/cohere` and `models/cohere2` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models import task_heads
from ..models.decoder_model import DecoderFields, DecoderModel, DecoderPretrained
from ..models.decoder_style import LogitStyle, QKNorm, Style
from ..models.layer_types import SLIDING, LayerTypes, every
from ..models.rope_config import one_rope


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandFields(DecoderFields):
    """The fields of both generations."""

    vocab_size: int = 256_000
    hidden_size: int = 8192
    intermediate_size: int = 22528
    num_hidden_layers: int = 40
    num_attention_heads: int = 64
    max_position_embeddings: int = 8192
    layer_norm_eps: float = 1e-5
    attention_bias: bool = False
    logit_scale: float = 0.0625
    pad_token_id: int | None = 0
    bos_token_id: int | None = 5
    eos_token_id: int | tuple[int, ...] | None = 255_001
    tie_word_embeddings: bool = True

    @property
    def style(self) -> Style:
        return Style(
            layer_norm=True,
            norm_eps=self.layer_norm_eps,
            norm_bias=False,
            mlp_in=None,
            parallel=True,
            qkv_bias=self.attention_bias,
            out_bias=self.attention_bias,
            act=self.hidden_act,
            rotate_pairs=True,
            logits=LogitStyle(scale=self.logit_scale),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CohereConfig(CommandFields):
    """`config.json` of a Command R."""

    model_type: ClassVar[str] = "cohere"
    rope_rules: ClassVar = one_rope(rope_theta=500_000.0)

    use_qk_norm: bool = False

    @property
    def style(self) -> Style:
        qk_norm = QKNorm(over="heads") if self.use_qk_norm else None
        return dataclasses.replace(super().style, qk_norm=qk_norm)


class CoherePretrained(DecoderPretrained):
    """The base of every model of the family."""

    config_class = CohereConfig


class CohereModel(DecoderModel, CoherePretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""


class CohereForCausalLM(CoherePretrained, task_heads.CausalLM):
    backbone = CohereModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cohere2Config(CommandFields, LayerTypes):
    """`config.json` of a Command R7B or Command A."""

    model_type: ClassVar[str] = "cohere2"
    unsupported: ClassVar = {  # of published files; the reference reads none of these
        **DecoderFields.unsupported,
        "layer_switch": (4, None),
        "order_of_interleaved_layers": ("local_attn_first", None),
        "position_embedding_type": ("rope_gptj", None),
        "rotary_pct": (1.0, None),
        "use_embedding_sharing": (True, None),
        "use_gated_activation": (True, None),
        "use_parallel_block": (True, None),
        "use_parallel_embedding": (True, False, None),
    }
    per_layer: ClassVar = {"layer_types": every("sliding_window_pattern")}

    sliding_window: int | None = 4096
    sliding_window_pattern: int | None = 4

    def rotation_name(self, layer: int) -> str | None:
        return "default" if self.attention_type(layer) == SLIDING else None


class Cohere2Pretrained(DecoderPretrained):
    """The base of every model of the family."""

    config_class = Cohere2Config


class Cohere2Model(DecoderModel, Cohere2Pretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""


class Cohere2ForCausalLM(Cohere2Pretrained, task_heads.CausalLM):
    backbone = Cohere2Model
