"""GPT-NeoX and Pythia: attention and MLP side by side with a LayerNorm each, a quarter of each head
rotated, q, k and v in one tensor of a checkpoint.

Black et al. 2022, arXiv:2204.06745; reference: `models/gpt_neox` of Transformers 5.23.
"""

import dataclasses

from ..models import config_checks, rope_config, vocabulary_heads
from ..models.decoder_model import DECODER_CLASSES, joined_qkv
from ..models.decoder_style import Style
from ..models.plain_heads import PlainHeads
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTNeoXConfig(PlainHeads, rope_config.Rotary):
    """`config.json` of a GPT-NeoX."""

    model_type = "gpt_neox"
    harmless = ("attention_probs_dropout_prob", "hidden_dropout_prob")
    rope_rules = rope_config.one_rope(
        partial_rotary_factor=0.25,
        spelled={"rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"},
    )

    vocab_size: int = 50432
    hidden_size: int = 6144
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    intermediate_size: int = 24576
    hidden_act: str = "gelu"
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    classifier_dropout: float = 0.1
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    use_parallel_residual: bool = True
    attention_bias: bool = True
    bos_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 2
    tie_word_embeddings: bool = False

    @property
    def style(self) -> Style:
        return Style(
            layer_norm=True,
            norm_eps=self.layer_norm_eps,
            attention="attention",
            parallel=self.use_parallel_residual,
            final_norm="final_layer_norm",
            qkv_bias=self.attention_bias,
            out="dense",
            out_bias=self.attention_bias,
            mlp=("dense_h_to_4h", "dense_4h_to_h"),
            mlp_bias=True,
            act=self.hidden_act,
            embedding_dropout=self.hidden_dropout,
            added_dropouts=(self.hidden_dropout, self.hidden_dropout),
            padding_row=False,
        )

    def validate(self) -> None:
        super().validate()
        config_checks.joined_heads(self)


class CausalLM(vocabulary_heads.CausalLM):
    """tokens [B, T] -> logits [B, T, V] of the token after each, by the head `embed_out`."""

    output_embeddings_path = "embed_out"
    lm_head_path = "embed_out"


__getattr__ = classes_of(
    GPTNeoXConfig,
    parts=DECODER_CLASSES | {"ForCausalLM": CausalLM},
    tied=(("embed_out/kernel", "gpt_neox/embed_in/embedding"),),
    base_model_prefix="gpt_neox",
    input_embeddings_path="embed_in",
    classifier_name="classifier",
    naming=joined_qkv(
        "attention/query_key_value",
        stacks=("layers",),
        ignored=(r"\.attention\.(masked_)?bias$", r"\.rotary_emb\.inv_freq$"),
    ),
)
