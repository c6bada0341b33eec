"""Decoders that differ from Llama by their `Style`: configuration, names and backbone."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import params as fp
from ..config.config import FROM_OTHERS
from ..core.model import Model, by_config
from ..documents.json_values import ConfigError
from . import config_checks, decoder, rope_config, task_heads
from .base import PretrainedModel
from .decoder_layers import DecoderLayer
from .decoder_style import LogitStyle, Style
from .layer_types import LayerKinds
from .vocabulary_heads import CausalLM


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderFields(LayerKinds, rope_config.Rotary):
    """The fields that `config.json` of most decoders has. `head_dim` and `num_key_value_heads`
    follow from the other fields if None, and what `rope_parameters` leaves open is filled in.

    A family begins with `DecoderConfig` or `LayerNormDecoderConfig`, or with this one if its norms'
    eps is called otherwise: then it adds the field, and all of its `style`.
    """

    unsupported: ClassVar = {
        **config_checks.NOT_IMPLEMENTED,
        "is_causal": (True,),
        "is_decoder": (False, True, None),
        "token_classification_bias": (True,),
    }
    derived: ClassVar = {
        "num_key_value_heads": lambda config: config.num_attention_heads,
        "head_dim": config_checks.even_share,
    }

    splits_width: ClassVar[bool] = False
    """Whether the number of heads divides the model's width, even where `head_dim` is given."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = FROM_OTHERS
    head_dim: int = FROM_OTHERS
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    attention_dropout: float = 0.0
    classifier_dropout: float | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2
    tie_word_embeddings: bool = False

    def validate(self) -> None:
        if self.splits_width:
            config_checks.multiple(self, "hidden_size", of="num_attention_heads")
        super().validate()
        config_checks.multiple(self, "num_attention_heads", of="num_key_value_heads")
        config_checks.pruned_heads(self)
        qk_norm = self.style.qk_norm if self.pruned_heads else None
        if qk_norm is not None and qk_norm.over == "all":
            raise ConfigError(
                "pruned_heads: all heads are normed together, and what is left of them would be "
                "other numbers"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(DecoderFields):
    """The fields of a decoder with RMSNorms."""

    rms_norm_eps: float = 1e-6

    @property
    def style(self) -> Style:
        return Style(norm_eps=self.rms_norm_eps, act=self.hidden_act)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasedDecoderConfig(DecoderConfig):
    """Adds whether the projections of attention and of the MLP have biases."""

    attention_bias: bool = False
    mlp_bias: bool = False

    @property
    def style(self) -> Style:
        bias = self.attention_bias
        return super().style.replace(qkv_bias=bias, out_bias=bias, mlp_bias=self.mlp_bias)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerNormDecoderConfig(DecoderFields):
    """The fields of a decoder with LayerNorms."""

    layer_norm_eps: float = 1e-5

    @property
    def style(self) -> Style:
        return Style(layer_norm=True, norm_eps=self.layer_norm_eps, act=self.hidden_act)


class DecoderPretrained(decoder.Decoder):
    """The base of every model of such a family."""

    is_parallelizable = True
    base_model_prefix = "model"
    input_embeddings_path = "embed_tokens"
    naming = fp.Naming(
        stacks=("layers",),
        flax_names=((r"norm/scale$", "norm/weight"),),
        ignored=(r"\.rotary_emb\.inv_freq$",),
    )
    tied = by_config(
        lambda self: (
            ("lm_head/kernel", f"{self.base_model_prefix}/{self.input_embeddings_path}/embedding"),
        )
    )
    classifier_name: ClassVar[str] = "score"

    @property
    def logit_style(self) -> LogitStyle:
        return self.config.style.logits


def joined_qkv(file: str, **naming: object) -> Any:
    """Makes the `naming` of a family whose checkpoints have q, k and v in one tensor: those of each
    key-value head together, after those of the query heads that share it.

    Args:
        file: as of `fp.Joined`.
        **naming: the rest of `fp.Naming`.
    """

    def of_model(model: Model) -> fp.Naming:
        parts, groups = ("q_proj", "k_proj", "v_proj"), model.config.num_key_value_heads
        return dataclasses.replace(fp.Naming(joined=(fp.Joined(file, parts, groups),)), **naming)

    return property(of_model)


class DecoderModel(decoder.Backbone, DecoderPretrained):
    """tokens [B, T] -> hidden states [B, T, D], after the last norm."""

    layer: ClassVar[type[nn.Module]] = DecoderLayer

    def setup(self) -> None:
        cfg, style = self.config, self.config.style
        padding = cfg.pad_token_id if style.padding_row else None
        embed = blocks.Embed(
            cfg.vocab_size, cfg.hidden_size, cfg.initializer_range, padding_id=padding
        )
        layers = blocks.Layers(self.layer, cfg, cfg.layer_kinds, self.options)
        setattr(self, self.input_embeddings_path, embed)
        if style.positions is not None:
            rows, axes = cfg.max_position_embeddings, ("position", "embed")
            table = blocks.Embed(rows, cfg.hidden_size, cfg.initializer_range, axes=axes)
            setattr(self, style.positions, table)
        if style.embedding_norm is not None:
            setattr(self, style.embedding_norm, style.norm(None))
        self.drop = nn.Dropout(style.embedding_dropout)
        setattr(self, self.naming.stacks[0], layers)
        setattr(self, style.final_norm, style.norm(None))

    @property
    def token_types(self) -> int | None:
        return self.config.vocab_size if self.config.style.types_are_tokens else None

    def embed(self, tokens: blocks.Tokens, context: blocks.PassContext) -> jax.Array:
        style, table = self.config.style, getattr(self, self.input_embeddings_path)
        x = blocks.embed_inputs(table, tokens, self.dtype)
        if style.token_scale is not None and tokens.input_ids is not None:
            x = x * jnp.asarray(style.token_scale, x.dtype)
        x = self.perturb_embeddings(x)
        if style.embedding_scale is not None:
            x = blocks.scaled(x, style.embedding_scale)
        if style.positions is not None:
            table_of_positions = getattr(self, style.positions)
            x = x + jnp.broadcast_to(table_of_positions(context.positions, self.dtype), x.shape)
        if tokens.token_type_ids is not None:
            x = x + jnp.broadcast_to(table(tokens.token_type_ids, self.dtype), x.shape)
        if style.embedding_norm is not None:
            x = getattr(self, style.embedding_norm)(x)
        return self.drop(x, deterministic=context.deterministic)

    def run_layers(self, x: jax.Array, context: blocks.PassContext) -> blocks.LayersOutput:
        return getattr(self, self.naming.stacks[0])(x, context)

    def finish(self, x: jax.Array) -> jax.Array:
        return getattr(self, self.config.style.final_norm)(x)

    def score_bias(self, mask: blocks.AttentionMask, length: int) -> jax.Array | None:
        style, tokens = self.config.style, mask.tokens
        if style.alibi is None:
            return None
        keys = length if tokens is None else tokens.shape[-1]
        heads, rounded = self.config.num_attention_heads, style.alibi.rounded
        return blocks.alibi(heads, tokens, keys, rounded=rounded) * style.alibi.scale

    def rotation(self, name: str, positions: jax.Array) -> blocks.Rotation:
        turned = super().rotation(name, positions)
        return dataclasses.replace(turned, pairs=self.config.style.rotate_pairs)


DECODER_CLASSES: dict[str, type[PretrainedModel]] = {
    "Pretrained": DecoderPretrained,
    "Model": DecoderModel,
    "ForCausalLM": CausalLM,
    "LMHeadModel": CausalLM,
    "ForSequenceClassification": task_heads.LastTokenClassification,
    "ForTokenClassification": task_heads.TokenClassification,
    "ForQuestionAnswering": task_heads.QuestionAnswering,
}
"""How a class's name ends -> what the class is, for `families.classes_of`."""
