"""Gemma 3 without images: Gemma 2 with norms on queries and keys in the place of the cap on scores,
five windows to one full layer, and a rotation for each of them. EmbeddingGemma attends both ways.

Gemma Team 2025, arXiv:2503.19786; Vera et al. 2025, arXiv:2509.20354; reference: `models/gemma3` of
Transformers 5.23.
"""

import dataclasses

from ..core.model import by_config
from ..models.decoder_model import DECODER_CLASSES
from ..models.decoder_style import QKNorm, Style
from ..models.layer_types import FULL, SLIDING, every
from ..models.rope_config import rope_by_type
from . import classes_of
from .gemma2 import Gemma2Fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gemma3TextConfig(Gemma2Fields):
    """`config.json` of a Gemma 3 without images. Of a model that attends both ways,
    `sliding_window` counts the tokens on both sides, as in the file."""

    model_type = "gemma3_text"
    unsupported = {
        **Gemma2Fields.unsupported,
        "attn_logit_softcapping": (None,),  # the reference's layers do not apply it
    }
    per_layer = {"layer_types": every("sliding_window_pattern")}
    rope_rules = rope_by_type(
        full_attention=1e6,
        sliding_attention=1e4,
        spelled={"rope_theta": FULL, "rope_local_base_freq": SLIDING},
    )

    vocab_size: int = 262_208
    max_position_embeddings: int = 131_072
    sliding_window_pattern: int | None = 6
    use_bidirectional_attention: bool = False

    @property
    def style(self) -> Style:
        return super().style.replace(qk_norm=QKNorm())

    def window(self, attention: str) -> int | None:
        window = super().window(attention)
        return window // 2 if window and self.use_bidirectional_attention else window


__getattr__ = classes_of(
    Gemma3TextConfig,
    parts=DECODER_CLASSES,
    is_causal=by_config(lambda self: not self.config.use_bidirectional_attention),
)
