"""StarCoder 2: Llama with LayerNorm, an MLP without a gate, biases, and a window on every layer, if
on any.

Lozhkov et al. 2024, arXiv:2402.19173; reference: `models/starcoder2` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES, DecoderFields
from ..models.decoder_style import Style
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Starcoder2Config(DecoderFields):
    """`config.json` of a StarCoder 2."""

    model_type = "starcoder2"
    unsupported = {
        **DecoderFields.unsupported,
        "mlp_type": ("default",),
        "norm_type": ("layer_norm",),
        "scale_attn_weights": (True,),
    }

    vocab_size: int = 49152
    hidden_size: int = 3072
    intermediate_size: int = 12288
    num_hidden_layers: int = 30
    num_attention_heads: int = 24
    num_key_value_heads: int = 2
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 4096
    initializer_range: float = 0.018042
    norm_epsilon: float = 1e-5
    sliding_window: int | None = None
    use_bias: bool = True
    residual_dropout: float = 0.0
    embedding_dropout: float = 0.0
    bos_token_id: int | None = 50256
    eos_token_id: int | tuple[int, ...] | None = 50256
    tie_word_embeddings: bool = True

    @property
    def style(self) -> Style:
        return Style(
            layer_norm=True,
            norm_eps=self.norm_epsilon,
            qkv_bias=self.use_bias,
            out_bias=self.use_bias,
            mlp=("c_fc", "c_proj"),
            mlp_bias=self.use_bias,
            act=self.hidden_act,
            embedding_dropout=self.embedding_dropout,
            added_dropouts=(self.residual_dropout, self.residual_dropout),
        )


__getattr__ = classes_of(Starcoder2Config, parts=DECODER_CLASSES)
