"""Qwen 2 and 2.5: Llama with biases on queries, keys and values, and windows in its upper layers.

Qwen Team 2024, arXiv:2407.10671; reference: `models/qwen2` of Transformers 5.23.
"""

import dataclasses

from ..models.decoder_model import DECODER_CLASSES, DecoderConfig
from ..models.decoder_style import Style
from ..models.layer_types import LayerTypes, window_from
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class QwenFields(DecoderConfig, LayerTypes):
    """The fields of both generations."""

    per_layer = {"layer_types": window_from("max_window_layers")}

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int = 32
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen2Config(QwenFields):
    """`config.json` of a Qwen 2. Without `use_sliding_window` there is no window."""

    model_type = "qwen2"
    unsupported = {
        **QwenFields.unsupported,
        "attention_bias": (True,),
        "use_mrope": (False, None),
    }

    @property
    def style(self) -> Style:
        return super().style.replace(qkv_bias=True)


__getattr__ = classes_of(
    Qwen2Config, parts=DECODER_CLASSES, prefixes={"ForQuestionAnswering": "transformer"}
)
