"""Gemma 2: Gemma with norms before and after each sublayer, a window in every other layer, and soft
caps on scores and logits.

Gemma Team 2024, arXiv:2408.00118; reference: `models/gemma2` of Transformers 5.23.
"""

import dataclasses

from ..documents.json_values import ConfigError, Json
from ..models.decoder_model import DECODER_CLASSES
from ..models.decoder_style import LogitStyle, Style
from ..models.layer_types import LayerTypes, every
from . import classes_of
from .gemma import GemmaFields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gemma2Fields(GemmaFields, LayerTypes):
    """The fields of Gemma 2 and 3. The file's `hidden_activation` is `hidden_act` here; the
    `hidden_act` that a file has beside is not read, as in the reference."""

    aliases = {"hidden_activation": "hidden_act"}

    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    query_pre_attn_scalar: int = 256
    sliding_window: int | None = 4096
    final_logit_softcapping: float | None = None

    @property
    def style(self) -> Style:
        return super().style.replace(
            attention_out="post_attention_layernorm",
            mlp_in="pre_feedforward_layernorm",
            mlp_out="post_feedforward_layernorm",
            score_scale=self.query_pre_attn_scalar**-0.5,
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
                raise ConfigError(f"{name} is {value}; it must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gemma2Config(Gemma2Fields):
    """`config.json` of a Gemma 2."""

    model_type = "gemma2"
    unsupported = {
        **GemmaFields.unsupported,
        "use_bidirectional_attention": (False, None),  # as for Gemma
    }
    per_layer = {"layer_types": every(2)}

    vocab_size: int = 256_000
    max_position_embeddings: int = 8192
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0

    @property
    def style(self) -> Style:
        return super().style.replace(score_softcap=self.attn_logit_softcapping)


__getattr__ = classes_of(Gemma2Config, parts=DECODER_CLASSES)
