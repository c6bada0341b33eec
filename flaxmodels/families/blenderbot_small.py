"""Blenderbot Small: norms after attention and MLP, learned positions; the first norm is over the
sum of tokens and positions in the encoder, and over tokens alone in the decoder.

Roller et al. 2020, arXiv:2004.13637; reference: `models/blenderbot_small` of Transformers 5.23.
"""

import dataclasses

from ..models.bart_layers import BartStyle
from ..models.encoder_decoders.fairseq import FAIRSEQ_CLASSES
from ..models.encoder_decoders.fairseq_config import FairseqConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlenderbotSmallConfig(FairseqConfig):
    """`config.json` of a small Blenderbot."""

    model_type = "blenderbot-small"
    kind = BartStyle(norm_first=False, embedding_norm="sum")
    scaled_in_decoder = "nothing"  # PyTorch's; the norm of tokens leaves little of a scale

    max_position_embeddings: int = 512
    encoder_layers: int = 8
    encoder_ffn_dim: int = 2048
    decoder_layers: int = 8
    decoder_ffn_dim: int = 2048
    d_model: int = 512
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    decoder_start_token_id: int | None = 1

    @property
    def style(self) -> BartStyle:
        normed = "tokens" if self.is_decoder else "sum"
        return dataclasses.replace(super().style, embedding_norm=normed)


__getattr__ = classes_of(BlenderbotSmallConfig, parts=FAIRSEQ_CLASSES)
