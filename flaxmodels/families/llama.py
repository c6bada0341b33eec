"""Llama 1-3: RMSNorm before each sublayer, rotary grouped-query attention, SwiGLU, no biases.

Touvron et al. 2023, arXiv:2302.13971; reference: `models/llama` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models import config_checks, task_heads
from ..models.decoder_model import DecoderConfig, DecoderModel, DecoderPretrained
from ..models.decoder_style import Style


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig(DecoderConfig):
    """`config.json` of a Llama."""

    model_type: ClassVar[str] = "llama"

    attention_bias: bool = False
    mlp_bias: bool = False

    @property
    def style(self) -> Style:
        return Style(
            norm_eps=self.rms_norm_eps,
            act=self.hidden_act,
            qkv_bias=self.attention_bias,
            out_bias=self.attention_bias,
            mlp_bias=self.mlp_bias,
        )

    def validate(self) -> None:
        config_checks.multiple(self, "hidden_size", of="num_attention_heads")
        super().validate()


class LlamaPretrained(DecoderPretrained):
    """The base of every model of the family."""

    config_class = LlamaConfig


class LlamaModel(DecoderModel, LlamaPretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""


class LlamaForCausalLM(LlamaPretrained, task_heads.CausalLM):
    backbone = LlamaModel


class LlamaForSequenceClassification(LlamaPretrained, task_heads.LastTokenClassification):
    backbone = LlamaModel


class LlamaForTokenClassification(LlamaPretrained, task_heads.TokenClassification):
    backbone = LlamaModel


class LlamaForQuestionAnswering(LlamaPretrained, task_heads.QuestionAnswering):
    """Its checkpoints call the backbone `transformer`."""

    backbone = LlamaModel
    base_model_prefix = "transformer"
