"""XGLM: BART's decoder alone, norms before attention and MLP, sinusoids for positions.

Lin et al. 2021, arXiv:2112.10668; reference: `models/xglm` of Transformers 5.23.
"""

import dataclasses

import jax

from .. import blocks
from .. import params as fp
from ..models import config_checks, decoder
from ..models.bart_layers import BartFields, BartStyle
from ..models.decoder_model import DECODER_CLASSES
from ..models.encoder_decoders.fairseq import FairseqStack
from ..models.encoders.positions import sinusoids
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
    def style(self) -> BartStyle:
        return BartStyle(
            inner_dropout=self.activation_dropout,
            over_encoder=self.add_cross_attention,
            positions="counted",
        )


class XGLMBackbone(FairseqStack):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""

    def positions(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        cfg, rows = self.config, context.positions + _OFFSET
        return sinusoids(rows, cfg.d_model, cfg.pad_token_id).astype(self.dtype)


__getattr__ = classes_of(
    XGLMConfig,
    parts=DECODER_CLASSES | {"Pretrained": decoder.Decoder, "Model": XGLMBackbone},
    naming=fp.Naming(
        stacks=("layers",),
        ignored=(r"\.embed_positions\.weights?$",),
        optional=(r"/encoder_attn(_layer_norm)?/",),  # of one that was trained alone
    ),
    tied=(("lm_head/kernel", "model/embed_tokens/embedding"),),
    is_causal=True,
    is_parallelizable=True,
    base_model_prefix="model",
    input_embeddings_path="embed_tokens",
)
