"""BART: norms after attention and MLP, learned positions two rows off, the first norm over the sum
of tokens and positions.

Lewis et al. 2019, arXiv:1910.13461; reference: `models/bart` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models.bart_layers import BartStyle
from ..models.encoder_decoders.fairseq import FAIRSEQ_CLASSES, FairseqPretrained
from ..models.encoder_decoders.fairseq_config import FairseqConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class BartConfig(FairseqConfig):
    """`config.json` of a BART."""

    model_type: ClassVar[str] = "bart"
    kind: ClassVar = BartStyle(norm_first=False, position_offset=2, embedding_norm="sum")

    classifier_dropout: float = 0.0
    num_labels: int = 3


class BartPretrained(FairseqPretrained):
    """The base of every model of the family."""

    config_class = BartConfig
    shifts_input_ids = True


__getattr__ = classes_of(BartConfig, parts=FAIRSEQ_CLASSES)
