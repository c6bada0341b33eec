"""RoBERTa with norms before attention and MLP.

Ott et al. 2019 (fairseq), arXiv:1904.01038; reference: `models/roberta_prelayernorm` of
Transformers 5.23.
"""

import dataclasses

from ..models.encoders import paths, roberta
from ..models.encoders.style import EncoderStyle
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaPreLayerNormConfig(roberta.RobertaFields):
    """`config.json` of a RoBERTa-PreLayerNorm."""

    model_type = "roberta-prelayernorm"

    vocab_size: int = 50265

    @property
    def style(self) -> EncoderStyle:
        return super().style.replace(
            norm_first=True,
            attention=paths.Attention(norm="attention/LayerNorm"),
            mlp=paths.MLP(norm="intermediate/LayerNorm"),
            final_norm="LayerNorm",
        )


__getattr__ = classes_of(
    RobertaPreLayerNormConfig,
    parts=roberta.ROBERTA_CLASSES,
    base_model_prefix="roberta_prelayernorm",
)
