"""UMT5: mT5 with a table of bias in every layer. States are scaled before the head, as in
Transformers 5; in 4 only where the head is the table of tokens, which changes no greatest logit.

Chung et al. 2023, arXiv:2304.09151; reference: `models/umt5` of Transformers 5.23.
"""

import dataclasses

from ..models.encoder_decoders.t5 import T5_CLASSES
from ..models.encoder_decoders.t5_config import T5Fields
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class UMT5Config(T5Fields):
    """`config.json` of a UMT5."""

    model_type = "umt5"

    vocab_size: int = 250112
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    feed_forward_proj: str = "gated-gelu"
    classifier_dropout: float = 0.0
    decoder_start_token_id: int | None = 0

    bias_in_every_layer = True

    @property
    def scales_states(self) -> bool:
        return True


__getattr__ = classes_of(UMT5Config, parts=T5_CLASSES)
