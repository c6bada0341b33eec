"""Llama 1-3: RMSNorm before each sublayer, rotary grouped-query attention, SwiGLU, no biases.

Touvron et al. 2023, arXiv:2302.13971; reference: `models/llama` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES, BiasedDecoderConfig
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig(BiasedDecoderConfig):
    """`config.json` of a Llama."""

    model_type = "llama"
    splits_width = True


__getattr__ = classes_of(
    LlamaConfig, parts=DECODER_CLASSES, prefixes={"ForQuestionAnswering": "transformer"}
)
