"""XGLM: BART's decoder alone, norms before attention and MLP, sinusoids for positions.

Lin et al. 2021, arXiv:2112.10668; reference: `models/xglm` of Transformers 5.23.
"""

import dataclasses
import math

import jax
from flax import linen as nn

from .. import blocks
from .. import params as fp
from ..documents.json_values import ConfigError
from ..models import config_checks, decoder, task_heads
from ..models.bart_layers import BartFields, BartLayer, BartStyle
from ..models.encoder_decoders.positions import sinusoids
from . import classes_of

_OFFSET = 2  # of positions among the sinusoids


@dataclasses.dataclass(frozen=True, kw_only=True)
class XGLMConfig(BartFields):
    """`config.json` of an XGLM. Sinusoids go on beyond `max_position_embeddings`."""

    model_type = "xglm"
    unsupported = {
        **config_checks.NO_COMPOSITES,
        "is_decoder": (False, True, None),
        "layerdrop": (0.0, None),
    }
    aliases = {
        "hidden_size": "d_model",
        "num_attention_heads": "attention_heads",
        "num_hidden_layers": "num_layers",
    }

    vocab_size: int = 256008
    d_model: int = 1024
    num_layers: int = 24
    attention_heads: int = 16
    ffn_dim: int = 4096
    activation_dropout: float = 0.0
    scale_embedding: bool = True
    add_cross_attention: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | tuple[int, ...] | None = 2

    @property
    def bart_style(self) -> BartStyle:
        return BartStyle(
            inner_dropout=self.activation_dropout, over_encoder=self.add_cross_attention
        )

    def validate(self) -> None:
        super().validate()
        if self.d_model < 4:
            raise ConfigError(f"XGLMConfig: d_model is {self.d_model}; sinusoids need at least 4")


class XGLMPretrained(decoder.Decoder):
    """The base of every model of the family."""

    config_class = XGLMConfig
    naming = fp.Naming(
        stacks=("layers",),
        ignored=(r"\.embed_positions\.weights?$",),
        optional=(r"/encoder_attn(_layer_norm)?/",),  # of one that was trained alone
    )
    tied = (("lm_head/kernel", "model/embed_tokens/embedding"),)
    is_parallelizable = True
    base_model_prefix = "model"
    input_embeddings_path = "embed_tokens"


class XGLMModel(decoder.Backbone, XGLMPretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""

    not_taken = frozenset(("token_type_ids", "head_mask"))

    def setup(self) -> None:
        cfg = self.config
        self.embed_tokens = blocks.Embed(
            cfg.vocab_size, cfg.d_model, cfg.init_std, padding_id=cfg.pad_token_id
        )
        self.drop = nn.Dropout(cfg.dropout)
        self.layers = blocks.Layers(BartLayer, cfg, cfg.layer_kinds, self.options)
        self.layer_norm = cfg.bart_style.norm()

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        cfg = self.config
        x = blocks.embed_inputs(self.embed_tokens, tokens, self.dtype)
        if cfg.scale_embedding and tokens.input_ids is not None:
            x = x * math.sqrt(cfg.d_model)
        x = self.perturb_embeddings(x)
        table = sinusoids(context.positions + _OFFSET, cfg.d_model, cfg.pad_token_id)
        x = x + table.astype(x.dtype)
        return self.drop(x, deterministic=context.deterministic)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        return self.layers(x, context)

    def finish(self, x: jax.Array) -> jax.Array:
        return self.layer_norm(x)


__getattr__ = classes_of(XGLMConfig, parts=task_heads.DECODER_HEADS)
