"""Mistral: Llama with a window on every layer, if on any, and heads of any width.

Jiang et al. 2023, arXiv:2310.06825; reference: `models/mistral` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models import task_heads
from ..models.decoder_model import DecoderConfig, DecoderModel, DecoderPretrained


@dataclasses.dataclass(frozen=True, kw_only=True)
class MistralConfig(DecoderConfig):
    """`config.json` of a Mistral. `sliding_window` is None for none."""

    model_type: ClassVar[str] = "mistral"

    intermediate_size: int = 14336
    num_key_value_heads: int = 8
    max_position_embeddings: int = 131072
    sliding_window: int | None = 4096


class MistralPretrained(DecoderPretrained):
    """The base of every model of the family."""

    config_class = MistralConfig


class MistralModel(DecoderModel, MistralPretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""


class MistralForCausalLM(MistralPretrained, task_heads.CausalLM):
    backbone = MistralModel


class MistralForSequenceClassification(MistralPretrained, task_heads.LastTokenClassification):
    backbone = MistralModel


class MistralForTokenClassification(MistralPretrained, task_heads.TokenClassification):
    backbone = MistralModel


class MistralForQuestionAnswering(MistralPretrained, task_heads.QuestionAnswering):
    backbone = MistralModel
