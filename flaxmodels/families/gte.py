"""GTE: BERT with a rotary embedding and a gated MLP.

Zhang et al. 2024, arXiv:2407.19669; reference: `models/gte` of Transformers 5.23.
"""

import dataclasses

from .. import params as fp
from ..models.encoders import paths
from ..models.encoders.fields import ClassifierFields
from ..models.encoders.heads import ENCODER_CLASSES
from ..models.encoders.model import UnpooledEncoderModel
from ..models.encoders.style import EncoderStyle
from ..models.rope_config import Rotary, one_rope
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class GteConfig(ClassifierFields, Rotary):
    """`config.json` of a GTE. A `type_vocab_size` of 0 is for no token types."""

    model_type = "gte"
    may_be_zero = ("type_vocab_size",)
    unsupported = {
        **ClassifierFields.unsupported,
        "position_embedding_type": ("rope", None),
    }
    rope_rules = one_rope(rope_theta=160_000.0)

    vocab_size: int = 250048
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 8192
    type_vocab_size: int = 1
    pad_token_id: int | None = 1

    @property
    def style(self) -> EncoderStyle:
        types = paths.Embeddings.types if self.type_vocab_size else None
        return super().style.replace(
            attention=paths.Attention(
                *(f"attention/{name}_proj" for name in "qkvo"), norm="attn_ln"
            ),
            mlp=paths.MLP("mlp/up_proj", "mlp/down_proj", "mlp_ln", gate="mlp/gate_proj"),
            embeddings=paths.Embeddings(types=types, positions=None),
            mlp_bias=False,
            down_bias=True,
            inner_dropout=self.hidden_dropout_prob,
        )


__getattr__ = classes_of(
    GteConfig,
    parts=ENCODER_CLASSES | {"Model": UnpooledEncoderModel},
    base_model_prefix="gte",
    predictions=paths.Predictions(
        "lm_head/dense", "lm_head/norm", "lm_head/decoder", "lm_head/decoder/bias", act="gelu"
    ),
    more_naming={
        "joined": (
            fp.Joined("attention/qkv_proj", ("q_proj", "k_proj", "v_proj")),
            fp.Joined("mlp/up_gate_proj", ("up_proj", "gate_proj")),
        ),
        "prefixes": ("new",),  # of published checkpoints
    },
)
