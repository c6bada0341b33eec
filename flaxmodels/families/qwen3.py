"""Qwen 3: Llama with RMSNorm over each head of queries and keys, and windows in its upper layers.

Qwen Team 2025, arXiv:2505.09388; reference: `models/qwen3` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES
from ..models.decoder_style import QKNorm, Style
from . import classes_of
from .qwen2 import QwenFields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen3Config(QwenFields):
    """`config.json` of a Qwen 3. Without `use_sliding_window` there is no window."""

    model_type = "qwen3"

    head_dim: int = 128
    attention_bias: bool = False

    @property
    def style(self) -> Style:
        bias = self.attention_bias
        return super().style.replace(qk_norm=QKNorm(), qkv_bias=bias, out_bias=bias)


__getattr__ = classes_of(
    Qwen3Config, parts=DECODER_CLASSES, prefixes={"ForQuestionAnswering": "transformer"}
)
