"""Pegasus: norms before attention and MLP, and one more at the end; sinusoids for positions.

Zhang et al. 2019, arXiv:1912.08777; reference: `models/pegasus` of Transformers 5.23.
"""

import dataclasses

from ..models.bart_layers import BartStyle
from ..models.encoder_decoders.fairseq import FAIRSEQ_CLASSES
from ..models.encoder_decoders.fairseq_config import FairseqConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class PegasusConfig(FairseqConfig):
    """`config.json` of a Pegasus. Checkpoints may hold the sinusoids."""

    model_type = "pegasus"
    kind = BartStyle(positions="sinusoids")
    scaled_in_decoder = "all"

    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = 1
    decoder_start_token_id: int | None = 0
    forced_eos_token_id: int | tuple[int, ...] | None = 1


__getattr__ = classes_of(PegasusConfig, parts=FAIRSEQ_CLASSES)
