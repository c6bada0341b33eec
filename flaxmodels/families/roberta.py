"""RoBERTa: BERT trained longer, on one segment, with positions after that of padding.

Liu et al. 2019, arXiv:1907.11692; reference: `models/roberta` of Transformers 5.23.
"""

import dataclasses

from ..models.encoders import roberta
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaConfig(roberta.RobertaFields):
    """`config.json` of a RoBERTa."""

    model_type = "roberta"

    vocab_size: int = 50265


__getattr__ = classes_of(RobertaConfig, parts=roberta.ROBERTA_CLASSES)
