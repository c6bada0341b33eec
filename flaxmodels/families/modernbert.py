"""ModernBERT: norms first and without biases, a gated MLP, a rotation for full layers and one for
those with a window on both sides.

Warner et al. 2024, arXiv:2412.13663; reference: `models/modernbert` of Transformers 5.23.
"""

import dataclasses

from .. import params as fp
from ..blocks import Kind
from ..core.model import by_config
from ..models import config_checks
from ..models.encoders import paths, transformed
from ..models.encoders.fields import EncoderFields
from ..models.encoders.heads import ENCODER_CLASSES
from ..models.encoders.model import ENCODER_INPUTS, EncoderModel, EncoderPretrained
from ..models.encoders.style import EncoderStyle
from ..models.layer_types import FULL, SLIDING, LayerTypes, every
from ..models.rope_config import Rotary, rope_by_type
from . import classes_of

_UNNORMED = "unnormed"
"""The form of the first layer, which reads normed embeddings."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModernBertConfig(EncoderFields, LayerTypes, Rotary):
    """`config.json` of a ModernBERT. `classifier_pooling` is that of a sequence's classifier: its
    first token ("cls"), or the mean of its tokens."""

    model_type = "modernbert"
    unsupported = config_checks.NOT_IMPLEMENTED
    harmless = tuple(
        "cls_token_id deterministic_flash_attn gradient_checkpointing initializer_cutoff_factor "
        "layer_norm_eps position_embedding_type reference_compile repad_logits_with_grad "
        "sep_token_id sparse_pred_ignore_index sparse_prediction".split()
    )
    per_layer = {"layer_types": every("global_attn_every_n_layers", place=0)}
    pattern = "global_attn_every_n_layers"
    rope_rules = rope_by_type(
        full_attention=160_000.0,
        sliding_attention=10_000.0,
        spelled={"global_rope_theta": FULL, "local_rope_theta": SLIDING},
    )

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    attention_dropout: float = 0.0
    global_attn_every_n_layers: int | None = 3
    local_attention: int = 128
    embedding_dropout: float = 0.0
    mlp_bias: bool = False
    mlp_dropout: float = 0.0
    decoder_bias: bool = True
    classifier_pooling: str = "cls"
    classifier_dropout: float = 0.0
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    pad_token_id: int | None = 50283
    bos_token_id: int | None = 50281
    eos_token_id: int | tuple[int, ...] | None = 50282

    @property
    def style(self) -> EncoderStyle:
        return EncoderStyle(
            norm_eps=self.norm_eps,
            norm_bias=self.norm_bias,
            act=self.hidden_activation,
            norm_first=True,
            attention=paths.Attention(
                "attn/q_proj", "attn/k_proj", "attn/v_proj", "attn/Wo", "attn_norm"
            ),
            mlp=paths.MLP("mlp/up_proj", "mlp/Wo", "mlp_norm", gate="mlp/gate_proj"),
            embeddings=paths.Embeddings("embeddings/tok_embeddings", None, None, "embeddings/norm"),
            layers="layers",
            final_norm="final_norm",
            qkv_bias=self.attention_bias,
            out_bias=self.attention_bias,
            mlp_bias=self.mlp_bias,
            embedding_dropout=self.embedding_dropout,
            score_dropout=self.attention_dropout,
            attention_dropout=self.attention_dropout,
            inner_dropout=self.mlp_dropout,
            classifier_dropout=self.classifier_dropout,
        )

    def style_of(self, form: str) -> EncoderStyle:
        style = self.style
        unnormed = dataclasses.replace(style.attention, norm=None)
        return style.replace(attention=unnormed) if form == _UNNORMED else style

    @property
    def layer_kinds(self) -> tuple[Kind, ...]:
        first, *others = super().layer_kinds
        return (first._replace(form=_UNNORMED), *others)

    @property
    def sliding_window(self) -> int:
        """How far away a key may be in layers with a window."""
        return self.local_attention // 2

    def validate(self) -> None:
        super().validate()
        config_checks.one_of(self, "classifier_pooling", ("cls", "mean"))


def _predictions_of(model: EncoderPretrained) -> paths.Predictions:
    cfg = model.config
    return paths.Predictions(
        "head/dense",
        "head/norm",
        "decoder",
        "decoder/bias" if cfg.decoder_bias else None,
        act=cfg.classifier_activation,
        dense_bias=cfg.classifier_bias,
    )


__getattr__ = classes_of(
    ModernBertConfig,
    parts=ENCODER_CLASSES | transformed.TRANSFORMED_CLASSES | {"Model": EncoderModel},
    base_model_prefix="model",
    input_embeddings_path="embeddings/tok_embeddings",
    predictions=by_config(_predictions_of),
    naming=fp.Naming(
        stacks=("layers",),
        joined=(
            fp.Joined("attn/Wqkv", ("q_proj", "k_proj", "v_proj")),
            fp.Joined("mlp/Wi", ("gate_proj", "up_proj")),
        ),
    ),
    not_taken=ENCODER_INPUTS | {"token_type_ids"},
)
