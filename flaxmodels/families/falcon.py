"""Falcon in three shapes, q, k and v in one tensor of a checkpoint: 7B has one key and value for
all heads, beside the MLP; 40B and later (`new_decoder_architecture`) share them in groups; the RW
models have ALiBi, and the MLP after attention.

Almazrouei et al. 2023, arXiv:2311.16867; reference: `models/falcon` of Transformers 5.23.
"""

import dataclasses

from ..config.config import FROM_OTHERS
from ..documents.json_values import ConfigError, Json
from ..models import config_checks, rope_config
from ..models.decoder_model import DECODER_CLASSES, joined_qkv
from ..models.decoder_style import Alibi, Style
from ..models.plain_heads import PlainHeads
from . import classes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class FalconConfig(PlainHeads, rope_config.Rotary):
    """`config.json` of a Falcon, or of a RefinedWeb, as it was called first.

    `multi_query` and the number of key-value heads of files without `new_decoder_architecture`
    contradict each other in published ones: the flag decides. `num_ln_in_parallel_attn` is 2 with
    `new_decoder_architecture` if None.
    """

    model_type = "falcon"
    aliases = {
        "n_embed": "hidden_size",
        "n_head": "num_attention_heads",
        "n_head_kv": "num_kv_heads",
        "n_layer": "num_hidden_layers",
    }
    unsupported = {
        **PlainHeads.unsupported,
        "apply_residual_connection_post_layernorm": (False, None),
    }
    derived = {
        "num_kv_heads": lambda config: config.num_attention_heads,
        "ffn_hidden_size": lambda config: 4 * config.hidden_size,
        "num_ln_in_parallel_attn": lambda config: 2 if config.new_decoder_architecture else None,
    }
    harmless = ("ff_factor",)

    vocab_size: int = 65024
    hidden_size: int = 4544
    num_hidden_layers: int = 32
    num_attention_heads: int = 71
    num_kv_heads: int = FROM_OTHERS
    num_ln_in_parallel_attn: int | None = None
    ffn_hidden_size: int = FROM_OTHERS
    activation: str = "gelu"
    alibi: bool = False
    new_decoder_architecture: bool = False
    multi_query: bool = True
    parallel_attn: bool = True
    bias: bool = False
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float | None = None
    max_position_embeddings: int = 2048
    bos_token_id: int | None = 11
    eos_token_id: int | tuple[int, ...] | None = 11

    @property
    def style(self) -> Style:
        two = self.num_ln_in_parallel_attn == 2
        beside = "ln_mlp" if two else None
        rates = (self.attention_dropout, self.hidden_dropout)
        return Style(
            layer_norm=True,
            norm_eps=self.layer_norm_epsilon,
            attention="self_attention",
            attention_in="ln_attn" if two else "input_layernorm",
            mlp_in=beside if self.parallel_attn else "post_attention_layernorm",
            parallel=self.parallel_attn,
            final_norm="ln_f",
            qkv_bias=self.bias,
            out="dense",
            out_bias=self.bias,
            mlp=("dense_h_to_4h", "dense_4h_to_h"),
            mlp_bias=self.bias,
            act=self.activation,
            # as in the reference: weights are dropped with ALiBi alone, and what attention adds by
            # their rate
            score_dropout=self.attention_dropout if self.alibi else 0.0,
            alibi=Alibi("bfloat16", self.head_dim**-0.5) if self.alibi else None,
            added_dropouts=(0.0, 0.0) if self.parallel_attn else rates,
            sum_dropout=self.hidden_dropout,
            padding_row=False,
        )

    @property
    def intermediate_size(self) -> int:
        """Width of the MLP."""
        return self.ffn_hidden_size

    @property
    def num_key_value_heads(self) -> int:
        if self.new_decoder_architecture:
            return self.num_kv_heads
        return 1 if self.multi_query else self.num_attention_heads

    def rotation_name(self, layer: int) -> str | None:
        return None if self.alibi else "default"

    def validate(self) -> None:
        super().validate()
        config_checks.multiple(self, "num_attention_heads", of="num_key_value_heads")
        config_checks.joined_heads(self)
        new, norms = self.new_decoder_architecture, self.num_ln_in_parallel_attn
        if new and not self.parallel_attn:
            raise ConfigError(
                "new_decoder_architecture has attention and MLP side by side; parallel_attn must "
                "be true"
            )
        if norms not in ((1, 2) if new else (None, 1)):
            raise ConfigError(
                f"num_ln_in_parallel_attn is {norms}; expected 1 or null, or with "
                "new_decoder_architecture 2"
            )
        if not (new or self.multi_query) and self.num_kv_heads != self.num_attention_heads:
            raise ConfigError(
                f"num_kv_heads is {self.num_kv_heads}, and without multi_query and "
                f"new_decoder_architecture each of {self.num_attention_heads} heads has its own"
            )

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Reads the first files of RefinedWeb 40B, in which the number of key-value heads alone
        says which architecture it is."""
        if values.get("n_head_kv") is not None:
            values.setdefault("new_decoder_architecture", True)
        return super().from_json_keys(values)


__getattr__ = classes_of(
    FalconConfig,
    parts=DECODER_CLASSES,
    base_model_prefix="transformer",
    input_embeddings_path="word_embeddings",
    classifier_name="classifier",
    naming=joined_qkv(
        "self_attention/query_key_value", stacks=("h",), ignored=(r"\.rotary_emb\.inv_freq$",)
    ),
)
