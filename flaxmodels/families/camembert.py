"""CamemBERT: RoBERTa of French.

Martin et al. 2019, arXiv:1911.03894; reference: `models/camembert` of Transformers 5.23.
"""

import dataclasses

from ..models.encoders import roberta
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class CamembertConfig(roberta.RobertaFields):
    """`config.json` of a CamemBERT."""

    model_type = "camembert"


__getattr__ = classes_of(CamembertConfig, parts=roberta.ROBERTA_CLASSES)
