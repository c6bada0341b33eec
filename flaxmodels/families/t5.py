"""T5: 1.0, whose head is the scaled table of tokens, and 1.1 (Flan, ByT5, UL2), with a gate in its
MLP and a head of its own.

Raffel et al. 2019, arXiv:1910.10683; reference: `models/t5` of Transformers 5.23.
"""

import dataclasses

from ..models.encoder_decoders.t5 import T5_CLASSES
from ..models.encoder_decoders.t5_config import ScaledHead
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config(ScaledHead):
    """`config.json` of a T5."""

    model_type = "t5"

    classifier_dropout: float = 0.0


__getattr__ = classes_of(T5Config, parts=T5_CLASSES)
