"""Granite 3: Llama with factors on embeddings, scores, residuals and logits.

IBM Granite Team 2024, "Granite 3.0 Language Models"; the factors are those of maximal update
parametrisation (Yang et al. 2022, arXiv:2203.03466); reference: `models/granite` of Transformers
5.23.
"""

import dataclasses

from ..documents.json_values import ConfigError
from ..models.decoder_model import DECODER_CLASSES, BiasedDecoderConfig
from ..models.decoder_style import LogitStyle, Style
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraniteConfig(BiasedDecoderConfig):
    """`config.json` of a Granite: `embedding_multiplier` scales what enters the first layer,
    `attention_multiplier` scores, `residual_multiplier` what a sublayer adds; logits are divided by
    `logits_scaling`."""

    model_type = "granite"

    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0

    @property
    def style(self) -> Style:
        return super().style.replace(
            score_scale=self.attention_multiplier,
            embedding_scale=self.embedding_multiplier,
            residual_scale=self.residual_multiplier,
            logits=LogitStyle(scale=1 / self.logits_scaling),
        )

    def validate(self) -> None:
        super().validate()
        if not self.logits_scaling:
            raise ConfigError("logits_scaling is 0; logits are divided by it")


__getattr__ = classes_of(GraniteConfig, parts=DECODER_CLASSES)
