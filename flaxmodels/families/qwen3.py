"""Qwen 3: Llama with RMSNorm over each head of queries and keys, and windows in its upper layers.

Qwen Team 2025, arXiv:2505.09388; reference: `models/qwen3` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES, DecoderConfig
from ..models.decoder_style import QKNorm, Style
from ..models.layer_types import LayerTypes, window_from
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen3Config(DecoderConfig, LayerTypes):
    """`config.json` of a Qwen 3. Without `use_sliding_window` there is no window."""

    model_type = "qwen3"
    per_layer = {"layer_types": window_from("max_window_layers")}

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int = 32
    head_dim: int = 128
    max_position_embeddings: int = 32768
    attention_bias: bool = False
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None

    @property
    def style(self) -> Style:
        bias = self.attention_bias
        return super().style.replace(qk_norm=QKNorm(), qkv_bias=bias, out_bias=bias)


__getattr__ = classes_of(
    Qwen3Config, parts=DECODER_CLASSES, prefixes={"ForQuestionAnswering": "transformer"}
)
