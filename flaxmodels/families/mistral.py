"""Mistral: Llama with a window on every layer, if on any, and heads of any width.

Jiang et al. 2023, arXiv:2310.06825; reference: `models/mistral` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES, DecoderConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class MistralConfig(DecoderConfig):
    """`config.json` of a Mistral. `sliding_window` is None for none."""

    model_type = "mistral"

    intermediate_size: int = 14336
    num_key_value_heads: int = 8
    max_position_embeddings: int = 131072
    sliding_window: int | None = 4096


__getattr__ = classes_of(MistralConfig, parts=DECODER_CLASSES)
