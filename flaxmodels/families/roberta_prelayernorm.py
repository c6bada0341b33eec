"""RoBERTa with norms before attention and MLP.

Ott et al. 2019 (fairseq), arXiv:1904.01038; reference: `models/roberta_prelayernorm` of
Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models.encoders import heads, roberta
from ..models.encoders.model import PooledEncoderModel
from ..models.encoders.style import AttentionNames, EncoderStyle, MLPNames


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaPreLayerNormConfig(roberta.RobertaFields):
    """`config.json` of a RoBERTa-PreLayerNorm."""

    model_type: ClassVar[str] = "roberta-prelayernorm"

    vocab_size: int = 50265

    @property
    def style(self) -> EncoderStyle:
        return dataclasses.replace(
            super().style,
            norm_first=True,
            attention=AttentionNames(norm="attention/LayerNorm"),
            mlp=MLPNames(norm="intermediate/LayerNorm"),
            final_norm="LayerNorm",
        )


class RobertaPreLayerNormPretrained(roberta.RobertaLike):
    """The base of every model of the family."""

    config_class = RobertaPreLayerNormConfig
    base_model_prefix = "roberta_prelayernorm"
    tied = roberta.RobertaLike.predictions.tied(base_model_prefix)


class RobertaPreLayerNormModel(PooledEncoderModel, RobertaPreLayerNormPretrained):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]. Causal if the config says `is_decoder`."""


class RobertaPreLayerNormForMaskedLM(RobertaPreLayerNormPretrained, heads.MaskedLM):
    backbone = RobertaPreLayerNormModel


class RobertaPreLayerNormForCausalLM(RobertaPreLayerNormPretrained, heads.CausalLM):
    backbone = RobertaPreLayerNormModel


class RobertaPreLayerNormForSequenceClassification(
    RobertaPreLayerNormPretrained, heads.FirstTokenClassification
):
    backbone = RobertaPreLayerNormModel


class RobertaPreLayerNormForMultipleChoice(RobertaPreLayerNormPretrained, roberta.MultipleChoice):
    backbone = RobertaPreLayerNormModel


class RobertaPreLayerNormForTokenClassification(
    RobertaPreLayerNormPretrained, heads.TokenClassification
):
    backbone = RobertaPreLayerNormModel


class RobertaPreLayerNormForQuestionAnswering(
    RobertaPreLayerNormPretrained, heads.QuestionAnswering
):
    backbone = RobertaPreLayerNormModel
