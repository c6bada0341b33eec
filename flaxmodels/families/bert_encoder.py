"""BERT's configuration, embeddings and layers."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import sharding as fs
from ..documents.json_values import ConfigError
from ..models import config_checks
from ..models.layer_types import LayerKinds


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(LayerKinds):
    """`config.json` of a BERT; one that `is_decoder` attends to what comes before alone."""

    model_type: ClassVar[str] = "bert"
    unsupported: ClassVar = {
        **config_checks.NO_COMPOSITES,
        "position_embedding_type": ("absolute", None),
    }

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    classifier_dropout: float | None = None
    pad_token_id: int | None = 0
    is_decoder: bool = False
    add_cross_attention: bool = False

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def num_key_value_heads(self) -> int:
        """Every head has keys and values of its own."""
        return self.num_attention_heads

    @property
    def position_limit(self) -> int:
        return self.max_position_embeddings

    def validate(self) -> None:
        config_checks.multiple(self, "hidden_size", of="num_attention_heads")
        config_checks.pruned_heads(self)
        config_checks.activation(self, "hidden_act")
        if self.add_cross_attention and not self.is_decoder:
            raise ConfigError("BertConfig: add_cross_attention is for a decoder; set is_decoder")


class BertEmbeddings(nn.Module):
    """tokens, types and positions [B, T] -> their vectors' normed sum [B, T, D]."""

    config: BertConfig

    def setup(self) -> None:
        cfg = self.config
        d, std, axes = cfg.hidden_size, cfg.initializer_range, ("position", "embed")
        self.word_embeddings = blocks.Embed(cfg.vocab_size, d, std, padding_id=cfg.pad_token_id)
        self.position_embeddings = blocks.Embed(cfg.max_position_embeddings, d, std, axes=axes)
        self.token_type_embeddings = blocks.Embed(cfg.type_vocab_size, d, std, axes=axes)
        self.LayerNorm = blocks.LayerNorm(cfg.layer_norm_eps)
        self.dropout = nn.Dropout(cfg.hidden_dropout_prob)

    def __call__(self, tokens, context, *, dtype, perturb):
        x = perturb(blocks.embed_inputs(self.word_embeddings, tokens, dtype))
        types = tokens.token_type_ids
        types = jnp.zeros((1, 1), jnp.int32) if types is None else types
        for added in (
            self.token_type_embeddings(types, dtype),
            self.position_embeddings(context.positions, dtype),
        ):
            x = x + jnp.broadcast_to(added, x.shape)
        return self.dropout(self.LayerNorm(x), deterministic=context.deterministic)


class BertSelfAttention(nn.Module):
    """Attention without the projection that follows it; `over_encoder` to an encoder's states."""

    config: BertConfig
    options: blocks.ModelOptions
    over_encoder: bool = False

    @nn.compact
    def __call__(self, x, context, at):
        cfg = self.config
        count = cfg.num_attention_heads if self.over_encoder else blocks.num_heads(cfg, at.layer)[0]

        def project(name, x):
            width, axes = count * cfg.head_dim, ("embed", "heads")
            y = blocks.Linear(width, axes, cfg.initializer_range, name=name)(x)
            return blocks.split_heads(y, cfg.head_dim)

        def keys_and_values(x):
            return project("key", x), project("value", x)

        q = project("query", x)
        told: Any = {
            "options": self.options,
            "scale": cfg.head_dim**-0.5,
            "dropout": cfg.attention_probs_dropout_prob,
        }
        if self.over_encoder:
            return blocks.cross_attention(self, q, keys_and_values, context, at, **told)
        return blocks.self_attention(self, q, *keys_and_values(x), context, at, **told)


class BertDense(nn.Module):
    """x [..., in] -> act(dense(x)) [..., features]."""

    config: BertConfig
    features: int
    axes: tuple[str, str]
    act: str

    @nn.compact
    def __call__(self, x):
        std = self.config.initializer_range
        x = blocks.Linear(self.features, self.axes, std, name="dense")(x)
        return blocks.ACTIVATIONS[self.act](x)


class BertOutput(nn.Module):
    """(y [B, T, in], residual [B, T, D]) -> the norm of the residual plus y projected."""

    config: BertConfig
    axis: str

    @nn.compact
    def __call__(self, y, residual, context):
        cfg = self.config
        axes = (self.axis, "embed")
        y = blocks.Linear(cfg.hidden_size, axes, cfg.initializer_range, name="dense")(y)
        y = nn.Dropout(cfg.hidden_dropout_prob)(y, deterministic=context.deterministic)
        return blocks.LayerNorm(cfg.layer_norm_eps, name="LayerNorm")(y + residual)


class BertAttention(nn.Module):
    config: BertConfig
    options: blocks.ModelOptions
    over_encoder: bool = False

    @nn.compact
    def __call__(self, x, context, at):
        attention = BertSelfAttention(self.config, self.options, self.over_encoder, name="self")
        y, cache, weights = attention(x, context, at)
        return BertOutput(self.config, "heads", name="output")(y, x, context), cache, weights


class BertLayer(nn.Module):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None)."""

    config: BertConfig
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x, context, at):
        cfg, rules = self.config, self.options.rules
        up = (cfg.intermediate_size, ("embed", "mlp"), cfg.hidden_act)
        attention = BertAttention(cfg, self.options, name="attention")
        x, cache, weights = attention(x, context, at)
        if cfg.add_cross_attention and context.has_encoder:
            cross = BertAttention(cfg, self.options, over_encoder=True, name="crossattention")
            x, cache, over_encoder = cross(x, context._replace(cache=cache), at)
            weights = (weights, over_encoder)
        y = BertDense(cfg, *up, name="intermediate")(x)
        y = fs.constrain(y, ("batch", "length", "mlp"), rules)
        x = BertOutput(cfg, "mlp", name="output")(y, x, context)
        return fs.constrain(x, ("batch", "length", "hidden"), rules), cache, weights


class BertEncoder(nn.Module):
    config: BertConfig
    options: blocks.ModelOptions

    def setup(self) -> None:
        cfg = self.config
        self.layer = blocks.Layers(BertLayer, cfg, cfg.layer_kinds, self.options)

    def __call__(self, x, context):
        return self.layer(x, context)
