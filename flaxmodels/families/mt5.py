"""mT5: T5 1.1 for 101 languages. The head is the table of tokens, or one of its own where a file
has another, and states are never scaled.

Xue et al. 2020, arXiv:2010.11934; reference: `models/mt5` of Transformers 5.23.
"""

import dataclasses

from ..models.encoder_decoders.t5 import T5_CLASSES
from ..models.encoder_decoders.t5_config import T5Fields
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class MT5Fields(T5Fields):
    """The fields of mT5 and UMT5."""

    vocab_size: int = 250112
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    feed_forward_proj: str = "gated-gelu"
    classifier_dropout: float = 0.0
    decoder_start_token_id: int | None = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MT5Config(MT5Fields):
    """`config.json` of an mT5."""

    model_type = "mt5"


__getattr__ = classes_of(MT5Config, parts=T5_CLASSES)
