"""BART: norms after attention and MLP, learned positions two rows off, the first norm over the sum
of tokens and positions.

Lewis et al. 2019, arXiv:1910.13461; reference: `models/bart` of Transformers 5.23.
"""

import dataclasses

from ..models.bart_layers import BartStyle
from ..models.encoder_decoders.fairseq import FAIRSEQ_CLASSES
from ..models.encoder_decoders.fairseq_config import FairseqConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class BartConfig(FairseqConfig):
    """`config.json` of a BART."""

    model_type = "bart"
    kind = BartStyle(norm_first=False, position_offset=2, embedding_norm="sum")

    classifier_dropout: float = 0.0
    num_labels: int = 3


__getattr__ = classes_of(BartConfig, parts=FAIRSEQ_CLASSES, shifts_input_ids=True)
