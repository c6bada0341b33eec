"""mBART: BART with norms before attention and MLP, and one more at the end; texts end with the code
of their language, with which the decoder begins.

Liu et al. 2020, arXiv:2001.08210; reference: `models/mbart` of Transformers 5.23.
"""

import dataclasses

from ..models.bart_layers import BartStyle
from ..models.encoder_decoders.fairseq import FAIRSEQ_CLASSES
from ..models.encoder_decoders.fairseq_config import FairseqConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class MBartConfig(FairseqConfig):
    """`config.json` of an mBART."""

    model_type = "mbart"
    kind = BartStyle(position_offset=2, embedding_norm="sum")

    classifier_dropout: float = 0.0
    decoder_start_token_id: int | None = None


__getattr__ = classes_of(
    MBartConfig, parts=FAIRSEQ_CLASSES, shifts_input_ids=True, wraps_last_token=True
)
