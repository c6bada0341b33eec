"""CamemBERT: RoBERTa of French.

Martin et al. 2019, arXiv:1911.03894; reference: `models/camembert` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models.encoders import heads, roberta
from ..models.encoders.model import PooledEncoderModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class CamembertConfig(roberta.RobertaFields):
    """`config.json` of a CamemBERT."""

    model_type: ClassVar[str] = "camembert"


class CamembertPretrained(roberta.RobertaLike):
    """The base of every model of the family."""

    config_class = CamembertConfig


class CamembertModel(PooledEncoderModel, CamembertPretrained):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]. Causal if the config says `is_decoder`."""


class CamembertForMaskedLM(CamembertPretrained, heads.MaskedLM):
    backbone = CamembertModel


class CamembertForCausalLM(CamembertPretrained, heads.CausalLM):
    backbone = CamembertModel


class CamembertForSequenceClassification(CamembertPretrained, heads.FirstTokenClassification):
    backbone = CamembertModel


class CamembertForMultipleChoice(CamembertPretrained, roberta.MultipleChoice):
    backbone = CamembertModel


class CamembertForTokenClassification(CamembertPretrained, heads.TokenClassification):
    backbone = CamembertModel


class CamembertForQuestionAnswering(CamembertPretrained, heads.QuestionAnswering):
    backbone = CamembertModel
