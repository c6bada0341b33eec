"""Qwen 2 and 2.5: Llama with biases on queries, keys and values, and windows in its upper layers.

Qwen Team 2024, arXiv:2407.10671; reference: `models/qwen2` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models import task_heads
from ..models.decoder_model import DecoderConfig, DecoderModel, DecoderPretrained
from ..models.decoder_style import Style
from ..models.layer_types import LayerTypes, window_from


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen2Config(DecoderConfig, LayerTypes):
    """`config.json` of a Qwen 2. Without `use_sliding_window` there is no window."""

    model_type: ClassVar[str] = "qwen2"
    per_layer: ClassVar = {"layer_types": window_from("max_window_layers")}
    unsupported: ClassVar = {
        **DecoderConfig.unsupported,
        "attention_bias": (True,),
        "use_mrope": (False, None),
    }

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int = 32
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None

    @property
    def style(self) -> Style:
        return Style(norm_eps=self.rms_norm_eps, act=self.hidden_act, qkv_bias=True)


class Qwen2Pretrained(DecoderPretrained):
    """The base of every model of the family."""

    config_class = Qwen2Config


class Qwen2Model(DecoderModel, Qwen2Pretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""


class Qwen2ForCausalLM(Qwen2Pretrained, task_heads.CausalLM):
    backbone = Qwen2Model


class Qwen2ForSequenceClassification(Qwen2Pretrained, task_heads.LastTokenClassification):
    backbone = Qwen2Model


class Qwen2ForTokenClassification(Qwen2Pretrained, task_heads.TokenClassification):
    backbone = Qwen2Model


class Qwen2ForQuestionAnswering(Qwen2Pretrained, task_heads.QuestionAnswering):
    """Its checkpoints call the backbone `transformer`."""

    backbone = Qwen2Model
    base_model_prefix = "transformer"
