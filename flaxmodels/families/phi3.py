"""Phi 3 and 4: Llama with dropouts, longrope, and projections that checkpoints have as one.

Abdin et al. 2024, arXiv:2404.14219; reference: `models/phi3` of Transformers 5.23.
"""

import dataclasses

from .. import params as fp
from ..models import rope_config
from ..models.decoder_model import DECODER_CLASSES, DecoderConfig, DecoderPretrained
from ..models.decoder_style import Style
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phi3Config(DecoderConfig):
    """`config.json` of a Phi 3 or 4. "su" and "yarn" are older names of "longrope" here."""

    model_type = "phi3"
    rope_rules = rope_config.one_rope(
        partial_rotary_factor=1.0,
        original_max_position_embeddings=4096,
        renamed={"su": "longrope", "yarn": "longrope"},
        type_key="type",
    )
    unsupported = {
        **DecoderConfig.unsupported,
        **dict.fromkeys(("attention_bias", "lm_head_bias", "mlp_bias"), (False, None)),
    }
    harmless = ("embd_pdrop", "full_attn_mod", "interpolate_factor")

    vocab_size: int = 32064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    resid_pdrop: float = 0.0
    sliding_window: int | None = None
    pad_token_id: int | None = 32000
    eos_token_id: int | tuple[int, ...] | None = 32000

    @property
    def style(self) -> Style:
        return super().style.replace(added_dropouts=(self.resid_pdrop, self.resid_pdrop))


__getattr__ = classes_of(
    Phi3Config,
    parts=DECODER_CLASSES,
    naming=dataclasses.replace(
        DecoderPretrained.naming,
        joined=(
            fp.Joined("self_attn/qkv_proj", ("q_proj", "k_proj", "v_proj")),
            fp.Joined("mlp/gate_up_proj", ("gate_proj", "up_proj")),
        ),
    ),
)
