"""OPT: learned positions of tokens, norms before attention and MLP, or after (350m).

Zhang et al. 2022, arXiv:2205.01068; reference: `models/opt` of Transformers 5.23.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import params as fp
from ..config.config import FROM_OTHERS
from ..models import decoder
from ..models.bart_layers import BartFields, BartLayer, BartStyle
from ..models.decoder_model import DECODER_CLASSES
from . import classes_of

_OFFSET = 2  # of positions in their table


@dataclasses.dataclass(frozen=True, kw_only=True)
class OPTConfig(BartFields):
    """`config.json` of an OPT. Tokens have vectors of `word_embed_proj_dim` numbers, `hidden_size`
    if None, and are projected to `hidden_size` and back if that is another."""

    model_type = "opt"
    derived = {"word_embed_proj_dim": lambda config: config.hidden_size}
    harmless = ("activation_dropout", "prefix")

    vocab_size: int = 50272
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    ffn_dim: int = 3072
    do_layer_norm_before: bool = True
    _remove_final_layer_norm: bool = False
    word_embed_proj_dim: int = FROM_OTHERS
    activation_function: str = "relu"
    attention_dropout: float = 0.0
    enable_bias: bool = True
    layer_norm_elementwise_affine: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 2
    eos_token_id: int | tuple[int, ...] | None = 2

    @property
    def style(self) -> BartStyle:
        return BartStyle(
            norm_first=self.do_layer_norm_before,
            norm_affine=self.layer_norm_elementwise_affine,
            use_bias=self.enable_bias,
        )

    @property
    def embedding_size(self) -> int:
        return self.word_embed_proj_dim

    @property
    def position_limit(self) -> int:
        return self.max_position_embeddings


class OPTDecoder(nn.Module):
    """All of the backbone: checkpoints have it under a name of its own."""

    config: OPTConfig
    options: blocks.ModelOptions

    def setup(self) -> None:
        cfg = self.config
        width, std, axes = cfg.word_embed_proj_dim, cfg.init_std, ("position", "embed")
        rows = cfg.max_position_embeddings + _OFFSET
        self.embed_tokens = blocks.Embed(cfg.vocab_size, width, std, padding_id=cfg.pad_token_id)
        self.embed_positions = blocks.Embed(rows, cfg.hidden_size, std, axes=axes)
        self.project_in = self.project_out = None
        if width != cfg.hidden_size:
            size = cfg.hidden_size
            self.project_in = blocks.Linear(size, ("embed", "hidden"), std, use_bias=False)
            self.project_out = blocks.Linear(width, ("hidden", "embed"), std, use_bias=False)
        self.layers = blocks.Layers(BartLayer, cfg, cfg.layer_kinds, self.options)
        self.final_layer_norm = None
        if cfg.do_layer_norm_before and not cfg._remove_final_layer_norm:
            self.final_layer_norm = cfg.style.norm()

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext, *, dtype, perturb):
        """Returns the sum of vectors of tokens and of positions: [B, T, D]."""
        x = perturb(blocks.embed_inputs(self.embed_tokens, tokens, dtype))
        if self.project_in is not None:
            x = self.project_in(x)
        given = tokens.position_ids
        positions = _token_numbers(context, x.shape[1]) if given is None else given
        return x + self.embed_positions(positions + _OFFSET, dtype)

    def finish(self, x: jax.Array) -> jax.Array:
        """Applies what follows the last layer."""
        if self.final_layer_norm is not None:
            x = self.final_layer_norm(x)
        return x if self.project_out is None else self.project_out(x)


def _token_numbers(context: blocks.PassContext, length: int) -> jax.Array:
    """Returns int32 [B or 1, T]: how many of the tokens that each attends to stand before it; -1
    for padding."""
    (mask,) = context.masks.values()
    seen = mask.tokens
    if seen is None:
        return context.positions
    numbers = jnp.where(seen, jnp.cumsum(seen, axis=-1, dtype=jnp.int32), 0)[:, 0] - 1
    if numbers.shape[1] > 1:  # a mask over pairs: each query counts its own keys
        return jnp.diagonal(numbers, axis1=1, axis2=2)
    if context.cache is None:
        return numbers[:, 0]
    return jax.lax.dynamic_slice_in_dim(numbers[:, 0], context.cache.index, length, 1)


class OPTBackbone(decoder.Backbone):
    """tokens [B, T] -> hidden states [B, T, D], or as wide as the vectors of tokens.

    Positions are counted by the mask where `position_ids` is None: padding has none.
    """

    def setup(self) -> None:
        self.decoder = OPTDecoder(self.config, self.options)

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        perturb = self.perturb_embeddings
        return self.decoder.embed(tokens, context, dtype=self.dtype, perturb=perturb)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        return self.decoder.layers(x, context)

    def finish(self, x: jax.Array) -> jax.Array:
        return self.decoder.finish(x)


__getattr__ = classes_of(
    OPTConfig,
    parts=DECODER_CLASSES | {"Pretrained": decoder.Decoder, "Model": OPTBackbone},
    naming=fp.Naming(stacks=("layers",), ignored=(r"(^|\.)decoder\.version$",)),
    tied=(("lm_head/kernel", "model/decoder/embed_tokens/embedding"),),
    is_parallelizable=True,
    base_model_prefix="model",
    input_embeddings_path="decoder/embed_tokens",
)
