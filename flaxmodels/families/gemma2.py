"""Gemma 2: Gemma with norms before and after each sublayer, a window in every other layer, and soft
caps on scores and logits.

Gemma 3 without images: norms on queries and keys in the place of the cap on scores, five windows to
one full layer, and a rotation for each of the two. EmbeddingGemma attends both ways.

Gemma Team 2024, arXiv:2408.00118, and 2025, arXiv:2503.19786; Vera et al. 2025, arXiv:2509.20354;
reference: `models/gemma2` and `models/gemma3` of Transformers 5.23.
"""

import dataclasses
from typing import ClassVar

from ..documents.json_values import ConfigError, Json
from ..models import task_heads
from ..models.decoder_model import DecoderConfig, DecoderModel, DecoderPretrained
from ..models.decoder_style import LogitStyle, QKNorm, Style
from ..models.layer_types import FULL, SLIDING, LayerTypes, every
from ..models.rope_config import rope_by_type


@dataclasses.dataclass(frozen=True, kw_only=True)
class GemmaFields(DecoderConfig, LayerTypes):
    """The fields of both generations. The file's `hidden_activation` is `hidden_act` here; the
    `hidden_act` that a file has beside is not read, as in the reference."""

    aliases: ClassVar = {"hidden_activation": "hidden_act"}

    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    hidden_act: str = "gelu_pytorch_tanh"
    attention_bias: bool = False
    query_pre_attn_scalar: int = 256
    sliding_window: int | None = 4096
    final_logit_softcapping: float | None = None
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | tuple[int, ...] | None = 1
    tie_word_embeddings: bool = True

    @property
    def style(self) -> Style:
        return Style(
            norm_eps=self.rms_norm_eps,
            norm_offset=1.0,
            attention_out="post_attention_layernorm",
            mlp_in="pre_feedforward_layernorm",
            mlp_out="post_feedforward_layernorm",
            act=self.hidden_act,
            qkv_bias=self.attention_bias,
            out_bias=self.attention_bias,
            score_scale=self.query_pre_attn_scalar**-0.5,
            token_scale=self.hidden_size**0.5,
            logits=LogitStyle(softcap=self.final_logit_softcapping),
        )

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Reads the activation from `hidden_activation`, and leaves out `hidden_act`."""
        values = super().from_json_keys(values)
        act = values.pop("hidden_activation", None)
        values.pop("hidden_act", None)
        return values if act is None else values | {"hidden_act": act}

    def to_json_keys(self, values: dict[str, Json]) -> dict[str, Json]:
        return super().to_json_keys(values) | {"hidden_activation": values["hidden_act"]}

    def validate(self) -> None:
        super().validate()
        caps = ("attn_logit_softcapping", "final_logit_softcapping")
        for name in ("query_pre_attn_scalar", *caps):
            if (value := getattr(self, name, None)) is not None and value <= 0:
                raise ConfigError(f"{type(self).__name__}: {name} is {value}; it must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gemma2Config(GemmaFields):
    """`config.json` of a Gemma 2."""

    model_type: ClassVar[str] = "gemma2"
    unsupported: ClassVar = {
        **DecoderConfig.unsupported,
        "use_bidirectional_attention": (False, None),  # as for Gemma
    }
    per_layer: ClassVar = {"layer_types": every(2)}

    vocab_size: int = 256_000
    max_position_embeddings: int = 8192
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0

    @property
    def style(self) -> Style:
        return dataclasses.replace(super().style, score_softcap=self.attn_logit_softcapping)


class Gemma2Pretrained(DecoderPretrained):
    """The base of every model of the family."""

    config_class = Gemma2Config


class Gemma2Model(DecoderModel, Gemma2Pretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""


class Gemma2ForCausalLM(Gemma2Pretrained, task_heads.CausalLM):
    backbone = Gemma2Model


class Gemma2ForSequenceClassification(Gemma2Pretrained, task_heads.LastTokenClassification):
    backbone = Gemma2Model


class Gemma2ForTokenClassification(Gemma2Pretrained, task_heads.TokenClassification):
    backbone = Gemma2Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gemma3TextConfig(GemmaFields):
    """`config.json` of a Gemma 3 without images. Of a model that attends both ways,
    `sliding_window` counts the tokens on both sides, as in the file."""

    model_type: ClassVar[str] = "gemma3_text"
    unsupported: ClassVar = {
        **DecoderConfig.unsupported,
        "attn_logit_softcapping": (None,),  # the reference's layers do not apply it
    }
    per_layer: ClassVar = {"layer_types": every("sliding_window_pattern")}
    rope_rules: ClassVar = rope_by_type(
        full_attention=1e6,
        sliding_attention=1e4,
        spelled={"rope_theta": FULL, "rope_local_base_freq": SLIDING},
    )

    vocab_size: int = 262_208
    max_position_embeddings: int = 131_072
    sliding_window_pattern: int | None = 6
    use_bidirectional_attention: bool = False

    @property
    def style(self) -> Style:
        return dataclasses.replace(super().style, qk_norm=QKNorm())

    def window(self, attention: str) -> int | None:
        window = super().window(attention)
        return window // 2 if window and self.use_bidirectional_attention else window


class Gemma3TextPretrained(DecoderPretrained):
    """The base of every model of the family."""

    config_class = Gemma3TextConfig

    @property
    def is_causal(self) -> bool:
        return not self.config.use_bidirectional_attention


class Gemma3TextModel(DecoderModel, Gemma3TextPretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""


class Gemma3ForCausalLM(Gemma3TextPretrained, task_heads.CausalLM):
    backbone = Gemma3TextModel


class Gemma3TextForSequenceClassification(Gemma3TextPretrained, task_heads.LastTokenClassification):
    backbone = Gemma3TextModel
