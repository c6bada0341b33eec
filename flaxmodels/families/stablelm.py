"""StableLM: LayerNorms, a quarter of each head turns, a norm of its own for each head (2 12B).

Bellagente et al. 2024, arXiv:2402.17834; reference: `models/stablelm` of Transformers 5.23.
"""

import dataclasses

from ..models import rope_config
from ..models.decoder_model import DECODER_CLASSES, DecoderPretrained, LayerNormDecoderConfig
from ..models.decoder_style import QKNorm, Style
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableLmConfig(LayerNormDecoderConfig):
    """`config.json` of a StableLM. Checkpoints have the norm of each head apart:
    `self_attn.q_layernorm.norms.<head>.weight`."""

    model_type = "stablelm"
    splits_width = True
    rope_rules = rope_config.one_rope(partial_rotary_factor=0.25)

    vocab_size: int = 50304
    hidden_size: int = 2560
    intermediate_size: int = 6912
    num_key_value_heads: int = 32
    max_position_embeddings: int = 4096
    use_qkv_bias: bool = False
    qk_layernorm: bool = False
    use_parallel_residual: bool = False
    hidden_dropout: float = 0.0
    bos_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 0

    @property
    def style(self) -> Style:
        norms = QKNorm(over="heads", names=("q_layernorm", "k_layernorm"))
        return super().style.replace(
            mlp_in=None if self.use_parallel_residual else "post_attention_layernorm",
            parallel=self.use_parallel_residual,
            qk_norm=norms if self.qk_layernorm else None,
            qkv_bias=self.use_qkv_bias,
            added_dropouts=(0.0, self.hidden_dropout),
        )


__getattr__ = classes_of(
    StableLmConfig,
    parts=DECODER_CLASSES,
    naming=dataclasses.replace(
        DecoderPretrained.naming,
        heads=("q_layernorm", "k_layernorm"),
        names=((r"([qk]_layernorm)/(\d+)/", r"\1/norms/\2/"),),
    ),
)
