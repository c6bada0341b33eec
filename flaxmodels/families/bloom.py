"""BLOOM: ALiBi in the place of positions, a norm on embeddings, q, k and v in one tensor of a
checkpoint.

BigScience 2022, arXiv:2211.05100; reference: `models/bloom` of Transformers 5.23.
"""

import dataclasses

from ..models import config_checks
from ..models.decoder_model import DECODER_CLASSES, joined_qkv
from ..models.decoder_style import Alibi, Style
from ..models.plain_heads import PlainHeads
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class BloomConfig(PlainHeads):
    """`config.json` of a BLOOM. Places are those of tokens in the mask: `position_ids` are checked
    and change nothing."""

    model_type = "bloom"
    aliases = {
        "n_embed": "hidden_size",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    harmless = (
        *("attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion", "n_inner"),
        *("offset_alibi", "pretraining_tp", "seq_length", "skip_bias_add", "skip_bias_add_qkv"),
        "slow_but_exact",
    )

    vocab_size: int = 250880
    hidden_size: int = 64
    n_layer: int = 2
    n_head: int = 8
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    apply_residual_connection_post_layernorm: bool = False
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2

    @property
    def style(self) -> Style:
        return Style(
            layer_norm=True,
            norm_eps=self.layer_norm_epsilon,
            attention="self_attention",
            residual_normed=self.apply_residual_connection_post_layernorm,
            final_norm="ln_f",
            qkv_bias=True,
            out="dense",
            out_bias=True,
            mlp=("dense_h_to_4h", "dense_4h_to_h"),
            mlp_bias=True,
            act="gelu_pytorch_tanh",
            alibi=Alibi(),
            embedding_norm="word_embeddings_layernorm",
            added_dropouts=(self.hidden_dropout, self.hidden_dropout),
            padding_row=False,
        )

    @property
    def intermediate_size(self) -> int:
        """Width of the MLP."""
        return 4 * self.hidden_size

    def validate(self) -> None:
        super().validate()
        config_checks.joined_heads(self)


__getattr__ = classes_of(
    BloomConfig,
    parts=DECODER_CLASSES,
    base_model_prefix="transformer",
    input_embeddings_path="word_embeddings",
    classifier_name="classifier",
    naming=joined_qkv("self_attention/query_key_value", stacks=("h",)),
)
