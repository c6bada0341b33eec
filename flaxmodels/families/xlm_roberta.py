"""XLM-RoBERTa: RoBERTa of a hundred languages.

Conneau et al. 2019, arXiv:1911.02116; reference: `models/xlm_roberta` of Transformers 5.23.
"""

import dataclasses

from ..models.encoders import roberta
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class XLMRobertaConfig(roberta.RobertaFields):
    """`config.json` of an XLM-RoBERTa."""

    model_type = "xlm-roberta"


__getattr__ = classes_of(XLMRobertaConfig, parts=roberta.ROBERTA_CLASSES)
