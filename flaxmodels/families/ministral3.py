"""Ministral 3: Mistral with YaRN, and queries that grow with the logarithm of their position.

Mistral AI 2025, https://mistral.ai/news/mistral-3; reference: `models/ministral3` of Transformers
5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES, DecoderConfig
from ..models.rope_config import one_rope
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ministral3Config(DecoderConfig):
    """`config.json` of a Ministral 3. `sliding_window` is None for none."""

    model_type = "ministral3"
    rope_rules = one_rope(
        absent={
            "rope_type": "yarn",
            "rope_theta": 1_000_000.0,
            "factor": 16.0,
            "original_max_position_embeddings": 16384,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
        further=("llama_4_scaling_beta",),
    )

    vocab_size: int = 131072
    intermediate_size: int = 14336
    num_hidden_layers: int = 34
    num_key_value_heads: int = 8
    head_dim: int = 128
    max_position_embeddings: int = 262144
    rms_norm_eps: float = 1e-5
    sliding_window: int | None = None
    pad_token_id: int | None = 11


__getattr__ = classes_of(Ministral3Config, parts=DECODER_CLASSES)
