"""Nomic BERT: BERT with a rotary embedding, a gated MLP, and no biases but those of norms.

Nussbaum et al. 2024, arXiv:2402.01613; reference: `models/nomic_bert` of Transformers 5.23.
"""

import dataclasses

from .. import params as fp
from ..config.config import FROM_OTHERS
from ..documents.json_values import Json
from ..models import config_checks
from ..models.encoders import paths
from ..models.encoders.fields import ClassifierFields
from ..models.encoders.heads import ENCODER_CLASSES
from ..models.encoders.model import UnpooledEncoderModel
from ..models.encoders.style import EncoderStyle
from ..models.rope_config import Rotary, one_rope
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class NomicBertConfig(ClassifierFields, Rotary):
    """`config.json` of a Nomic BERT, with the keys of Transformers 5 or those of GPT-2, as the
    published ones have."""

    model_type = "nomic_bert"
    aliases = {
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
        "layer_norm_epsilon": "layer_norm_eps",
        "attn_pdrop": "attention_probs_dropout_prob",
        "resid_pdrop": "hidden_dropout_prob",
    }
    unsupported = {
        **ClassifierFields.unsupported,
        **dict.fromkeys(
            "causal mlp_fc1_bias mlp_fc2_bias parallel_block prenorm qkv_proj_bias "
            "rotary_emb_interleaved scale_attn_by_inverse_layer_idx use_rms_norm".split(),
            (False, None),
        ),
        "moe_every_n_layers": (0, None),
        "rotary_emb_fraction": (1.0,),
        "rotary_emb_scale_base": (None,),
        "rotary_scaling_factor": (None,),
        "scale_attn_weights": (True,),
    }
    harmless = tuple(
        "dense_seq_output embd_pdrop fused_bias_fc fused_dropout_add_ln max_trained_positions "
        "pad_vocab_size_multiple parallel_block_tied_norm reorder_and_upcast_attn use_flash_attn "
        "use_xentropy".split()
    )
    derived = {"head_dim": config_checks.even_share}
    rope_rules = one_rope(rope_theta=1000.0)

    vocab_size: int = 30528
    hidden_act: str = "silu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 2048
    type_vocab_size: int = 2
    head_dim: int = FROM_OTHERS  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def style(self) -> EncoderStyle:
        return super().style.replace(
            attention=paths.Attention(
                "attn/q_proj", "attn/k_proj", "attn/v_proj", "attn/out_proj", "norm1"
            ),
            mlp=paths.MLP("mlp/fc11", "mlp/fc2", "norm2", gate="mlp/fc12"),
            embeddings=paths.Embeddings(positions=None, norm="emb_ln"),
            layers="encoder/layers",
            qkv_bias=False,
            out_bias=False,
            mlp_bias=False,
        )

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Reads the activation and the base of the rotation under the names of published files."""
        values = dict(values)
        if values.pop("activation_function", None) == "swiglu":
            values.setdefault("hidden_act", "silu")
        if (base := values.pop("rotary_emb_base", None)) is not None:
            values.setdefault("rope_theta", base)
        return super().from_json_keys(values)


__getattr__ = classes_of(
    NomicBertConfig,
    parts=ENCODER_CLASSES | {"Model": UnpooledEncoderModel},
    base_model_prefix="nomic_bert",
    predictions=paths.Predictions(norm="cls/predictions/transform/layer_norm"),
    more_naming={
        "stacks": ("layers",),
        "joined": (fp.Joined("attn/Wqkv", ("q_proj", "k_proj", "v_proj")),),
    },
)
