"""Blenderbot: norms before attention and MLP, and one more at the end; learned positions.

Roller et al. 2020, arXiv:2004.13637; reference: `models/blenderbot` of Transformers 5.23.
"""

import dataclasses

from ..models.encoder_decoders.fairseq import FAIRSEQ_CLASSES
from ..models.encoder_decoders.fairseq_config import FairseqConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlenderbotConfig(FairseqConfig):
    """`config.json` of a Blenderbot."""

    model_type = "blenderbot"

    vocab_size: int = 8008
    max_position_embeddings: int = 128
    encoder_layers: int = 2
    encoder_ffn_dim: int = 10240
    encoder_attention_heads: int = 32
    decoder_layers: int = 24
    decoder_ffn_dim: int = 10240
    decoder_attention_heads: int = 32
    d_model: int = 2560
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    decoder_start_token_id: int | None = 1


__getattr__ = classes_of(BlenderbotConfig, parts=FAIRSEQ_CLASSES)
