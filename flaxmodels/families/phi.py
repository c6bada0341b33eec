"""Phi 1 to 2: one LayerNorm for attention and MLP side by side, half of each head turns, biases.

Gunasekar et al. 2023, arXiv:2306.11644; reference: `models/phi` of Transformers 5.23.
"""

import dataclasses

from ..models import rope_config
from ..models.decoder_model import DECODER_CLASSES, LayerNormDecoderConfig
from ..models.decoder_style import LogitStyle, QKNorm, Style
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhiConfig(LayerNormDecoderConfig):
    """`config.json` of a Phi."""

    model_type = "phi"
    splits_width = True
    rope_rules = rope_config.one_rope(partial_rotary_factor=0.5)

    vocab_size: int = 51200
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    hidden_act: str = "gelu_new"
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    qk_layernorm: bool = False

    @property
    def style(self) -> Style:
        names = ("q_layernorm", "k_layernorm")
        return super().style.replace(
            mlp_in=None,
            parallel=True,
            final_norm="final_layernorm",
            qk_norm=QKNorm(names=names, use_bias=True) if self.qk_layernorm else None,
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
            out="dense",
            mlp=("fc1", "fc2"),
            embedding_dropout=self.embd_pdrop,
            added_dropouts=(self.resid_pdrop, self.resid_pdrop),
            logits=LogitStyle(use_bias=True),
        )


__getattr__ = classes_of(PhiConfig, parts=DECODER_CLASSES)
