"""XLM-RoBERTa: RoBERTa of a hundred languages.

Conneau et al. 2019, arXiv:1911.02116; reference: `models/xlm_roberta` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models.encoders import heads, roberta
from ..models.encoders.model import PooledEncoderModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class XLMRobertaConfig(roberta.RobertaFields):
    """`config.json` of an XLM-RoBERTa."""

    model_type: ClassVar[str] = "xlm-roberta"


class XLMRobertaPretrained(roberta.RobertaLike):
    """The base of every model of the family."""

    config_class = XLMRobertaConfig


class XLMRobertaModel(PooledEncoderModel, XLMRobertaPretrained):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]. Causal if the config says `is_decoder`."""


class XLMRobertaForMaskedLM(XLMRobertaPretrained, heads.MaskedLM):
    backbone = XLMRobertaModel


class XLMRobertaForCausalLM(XLMRobertaPretrained, heads.CausalLM):
    backbone = XLMRobertaModel


class XLMRobertaForSequenceClassification(XLMRobertaPretrained, heads.FirstTokenClassification):
    backbone = XLMRobertaModel


class XLMRobertaForMultipleChoice(XLMRobertaPretrained, roberta.MultipleChoice):
    backbone = XLMRobertaModel


class XLMRobertaForTokenClassification(XLMRobertaPretrained, heads.TokenClassification):
    backbone = XLMRobertaModel


class XLMRobertaForQuestionAnswering(XLMRobertaPretrained, heads.QuestionAnswering):
    backbone = XLMRobertaModel
