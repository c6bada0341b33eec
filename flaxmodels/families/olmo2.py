"""OLMo 2: Llama with norms of what attention and the MLP add, not of what they read, and of all
queries and all keys of a token together. OLMo 3 has three windows to one full layer, and stretches
the rotation of the full ones alone to longer texts.

OLMo Team 2025, arXiv:2501.00656 and arXiv:2512.13961; reference: `models/olmo2` and `models/olmo3`
of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..models import task_heads
from ..models.decoder_model import DecoderConfig, DecoderModel, DecoderPretrained
from ..models.decoder_style import QKNorm, Style
from ..models.layer_types import FULL, LayerTypes, every
from ..models.rope_config import rope_by_type


@dataclasses.dataclass(frozen=True, kw_only=True)
class Olmo2Config(DecoderConfig):
    """`config.json` of an OLMo 2."""

    model_type: ClassVar[str] = "olmo2"

    vocab_size: int = 50304
    rms_norm_eps: float = 1e-5
    attention_bias: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = 50279

    @property
    def style(self) -> Style:
        return Style(
            norm_eps=self.rms_norm_eps,
            attention_in=None,
            attention_out="post_attention_layernorm",
            mlp_in=None,
            mlp_out="post_feedforward_layernorm",
            qk_norm=QKNorm(over="all"),
            qkv_bias=self.attention_bias,
            out_bias=self.attention_bias,
            act=self.hidden_act,
        )


class Olmo2Pretrained(DecoderPretrained):
    """The base of every model of the family."""

    config_class = Olmo2Config


class Olmo2Model(DecoderModel, Olmo2Pretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""


class Olmo2ForCausalLM(Olmo2Pretrained, task_heads.CausalLM):
    backbone = Olmo2Model


class Olmo2ForSequenceClassification(Olmo2Pretrained, task_heads.LastTokenClassification):
    backbone = Olmo2Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Olmo3Config(Olmo2Config, LayerTypes):
    """`config.json` of an OLMo 3. `rope_theta` and `rope_scaling` of files for Transformers 4 are
    those of the full layers."""

    model_type: ClassVar[str] = "olmo3"
    per_layer: ClassVar = {"layer_types": every(4)}
    rope_rules: ClassVar = rope_by_type(
        full_attention=5e5, sliding_attention=5e5, spelled={"rope_theta": FULL}
    )

    sliding_window: int | None = 4096


class Olmo3Pretrained(DecoderPretrained):
    """The base of every model of the family."""

    config_class = Olmo3Config


class Olmo3Model(DecoderModel, Olmo3Pretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""


class Olmo3ForCausalLM(Olmo3Pretrained, task_heads.CausalLM):
    backbone = Olmo3Model


class Olmo3ForSequenceClassification(Olmo3Pretrained, task_heads.LastTokenClassification):
    backbone = Olmo3Model
