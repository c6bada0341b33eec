"""OLMo 2: Llama with norms of what attention and the MLP add, not of what they read, and of all
queries and all keys of a token together.

OLMo Team 2025, arXiv:2501.00656; reference: `models/olmo2` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES, DecoderConfig
from ..models.decoder_style import QKNorm, Style
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Olmo2Config(DecoderConfig):
    """`config.json` of an OLMo 2."""

    model_type = "olmo2"

    vocab_size: int = 50304
    rms_norm_eps: float = 1e-5
    attention_bias: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = 50279

    @property
    def style(self) -> Style:
        return super().style.replace(
            attention_in=None,
            attention_out="post_attention_layernorm",
            mlp_in=None,
            mlp_out="post_feedforward_layernorm",
            qk_norm=QKNorm(over="all"),
            qkv_bias=self.attention_bias,
            out_bias=self.attention_bias,
        )


__getattr__ = classes_of(Olmo2Config, parts=DECODER_CLASSES)
