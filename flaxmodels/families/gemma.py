"""Gemma: Llama with norms that multiply by 1 + scale, token embeddings times sqrt(D), a gated GELU,
and tied embeddings.

Gemma Team 2024, arXiv:2403.08295; reference: `models/gemma` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES, DecoderConfig
from ..models.decoder_style import Style
from . import classes_of

_TANH_GELU = "gelu_pytorch_tanh"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GemmaFields(DecoderConfig):
    """The fields of all generations."""

    head_dim: int = 256
    hidden_act: str = _TANH_GELU
    attention_bias: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | tuple[int, ...] | None = 1
    tie_word_embeddings: bool = True

    @property
    def style(self) -> Style:
        bias, width = self.attention_bias, self.hidden_size
        return super().style.replace(
            norm_offset=1.0, qkv_bias=bias, out_bias=bias, token_scale=width**0.5
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GemmaConfig(GemmaFields):
    """`config.json` of a Gemma. The activation "gelu" of its first files stands for what the models
    were trained with, the approximation by tanh."""

    model_type = "gemma"
    unsupported = {
        **GemmaFields.unsupported,
        # the reference attends both ways or not as its implementation of attention has it
        "use_bidirectional_attention": (False, None),
        "hidden_activation": (_TANH_GELU, None),  # what Transformers 4 reads instead
    }

    vocab_size: int = 256_000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    max_position_embeddings: int = 8192

    def derive(self) -> None:
        if self.hidden_act == "gelu":
            object.__setattr__(self, "hidden_act", _TANH_GELU)
        super().derive()


__getattr__ = classes_of(GemmaConfig, parts=DECODER_CLASSES)
