"""RoBERTa: BERT trained longer, on one segment, with positions after that of padding.

Liu et al. 2019, arXiv:1907.11692; reference: `models/roberta` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models.encoders import heads, roberta
from ..models.encoders.model import PooledEncoderModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaConfig(roberta.RobertaFields):
    """`config.json` of a RoBERTa."""

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = 50265


class RobertaPretrained(roberta.RobertaLike):
    """The base of every model of the family."""

    config_class = RobertaConfig


class RobertaModel(PooledEncoderModel, RobertaPretrained):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]. Causal if the config says `is_decoder`."""


class RobertaForMaskedLM(RobertaPretrained, heads.MaskedLM):
    backbone = RobertaModel


class RobertaForCausalLM(RobertaPretrained, heads.CausalLM):
    backbone = RobertaModel


class RobertaForSequenceClassification(RobertaPretrained, heads.FirstTokenClassification):
    backbone = RobertaModel


class RobertaForMultipleChoice(RobertaPretrained, roberta.MultipleChoice):
    backbone = RobertaModel


class RobertaForTokenClassification(RobertaPretrained, heads.TokenClassification):
    backbone = RobertaModel


class RobertaForQuestionAnswering(RobertaPretrained, heads.QuestionAnswering):
    backbone = RobertaModel
