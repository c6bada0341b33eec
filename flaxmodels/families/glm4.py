"""GLM 4: norms before and after attention and MLP, pairs of half of each head turn.

GLM team 2024, arXiv:2406.12793; reference: `models/glm4` of Transformers 5.23.
"""

import dataclasses

from .. import params as fp
from ..models import rope_config
from ..models.decoder_model import DECODER_CLASSES, DecoderConfig, DecoderPretrained
from ..models.decoder_style import Style
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glm4Config(DecoderConfig):
    """`config.json` of a dense GLM 4."""

    model_type = "glm4"
    rope_rules = rope_config.one_rope(partial_rotary_factor=0.5)

    vocab_size: int = 151552
    intermediate_size: int = 13696
    num_hidden_layers: int = 40
    num_key_value_heads: int = 2
    head_dim: int = 128
    max_position_embeddings: int = 131072
    rms_norm_eps: float = 1.5625e-07
    attention_bias: bool = True
    pad_token_id: int | None = 151329
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = (151329, 151336, 151338)

    @property
    def style(self) -> Style:
        return super().style.replace(
            attention_out="post_self_attn_layernorm",
            mlp_out="post_mlp_layernorm",
            qkv_bias=self.attention_bias,
            rotate_pairs=True,
        )


__getattr__ = classes_of(
    Glm4Config,
    parts=DECODER_CLASSES,
    naming=dataclasses.replace(
        DecoderPretrained.naming,
        joined=(fp.Joined("mlp/gate_up_proj", ("gate_proj", "up_proj")),),
    ),
)
