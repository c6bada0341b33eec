"""The layer of fairseq's encoders and decoders, as in BART, OPT and XGLM, and the fields that their
configurations share.

Lewis et al. 2019, arXiv:1910.13461.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from ..config.config import Config
from ..documents.json_values import ConfigError
from .plain_heads import PlainHeads


@dataclasses.dataclass(frozen=True)
class BartStyle:
    """Holds what `BartLayer` reads beside the fields of `BartFields`.

    Attributes:
        norm_first: norms stand before attention and MLP, not after their sums.
        norm_affine: norms have scale and bias.
        use_bias: of the projections.
        inner_dropout: rate at which activations of the MLP are dropped.
        layer_drop: rate at which whole layers are left out.
        over_encoder: layers attend to an encoder too, if there is one.
        positions: of an encoder or decoder: "learned", a table; "sinusoids", of as many rows;
            "counted", sinusoids without end by the number of tokens before each.
        position_offset: rows of the table before that of the first position.
        embedding_norm: what is normed before the first layer: the "sum" of the vectors of tokens
            and positions, those of "tokens", or "nothing".
        scaled: what `scale_embedding` is about: vectors looked up for "tokens", those given in
            their place too ("all"), or "nothing".
    """

    norm_first: bool = True
    norm_affine: bool = True
    use_bias: bool = True
    inner_dropout: float = 0.0
    layer_drop: float = 0.0
    over_encoder: bool = False
    positions: str = "learned"
    position_offset: int = 0
    embedding_norm: str = "nothing"
    scaled: str = "tokens"

    def norm(self, name: str | None = None) -> nn.Module:
        """Makes a norm; its eps is PyTorch's own."""
        affine = self.norm_affine
        return blocks.LayerNorm(1e-5, use_bias=affine, use_scale=affine, name=name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BartFields(PlainHeads):
    """The fields of a stack of such layers; those of its size are the family's."""

    unsupported: ClassVar = {**PlainHeads.unsupported, "layerdrop": (0.0, None)}

    max_position_embeddings: int = 2048
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    init_std: float = 0.02

    @property
    def initializer_range(self) -> float:
        """Deviation of the normals from which kernels and tables are drawn."""
        return self.init_std

    def validate(self) -> None:
        super().validate()
        if self.style.positions == "counted" and self.hidden_size < 4:
            raise ConfigError(f"d_model is {self.hidden_size}; sinusoids need at least 4")


class BartAttention(nn.Module):
    """(x [B, T, D], context, at) -> ([B, T, D], cache, attention weights or None).

    Attributes:
        over_encoder: keys and values are of the encoder's states.
    """

    config: Config
    options: blocks.ModelOptions
    over_encoder: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        cfg = self.config
        std, use_bias = cfg.init_std, cfg.style.use_bias
        count = cfg.num_attention_heads if self.over_encoder else blocks.num_heads(cfg, at.layer)[0]

        def project(name: str, x: jax.Array) -> jax.Array:
            width, axes = count * cfg.head_dim, ("embed", "heads")
            y = blocks.Linear(width, axes, std, use_bias=use_bias, name=name)(x)
            return blocks.split_heads(y, cfg.head_dim)

        def keys_and_values(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return project("k_proj", x), project("v_proj", x)

        q, scale, dropout = project("q_proj", x), cfg.head_dim**-0.5, cfg.attention_dropout
        told: blocks.Scored = {"options": self.options, "scale": scale, "dropout": dropout}
        if self.over_encoder:
            out = blocks.cross_attention(self, q, keys_and_values, context, at, **told)
        else:
            out = blocks.self_attention(self, q, *keys_and_values(x), context, at, **told)
        y, cache, weights = out
        axes = ("heads", "embed")
        y = blocks.Linear(cfg.hidden_size, axes, std, use_bias=use_bias, name="out_proj")(y)
        return nn.Dropout(cfg.dropout)(y, deterministic=context.deterministic), cache, weights


class BartLayer(nn.Module):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None)."""

    config: Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        cfg, style = self.config, self.config.style
        first, given = style.norm_first, x

        norm = style.norm("self_attn_layer_norm")
        attention = BartAttention(cfg, self.options, name="self_attn")
        y, cache, weights = attention(norm(x) if first else x, context, at)
        x = self.options.residual(x + y if first else norm(x + y))

        if style.over_encoder and context.has_encoder:
            norm = style.norm("encoder_attn_layer_norm")
            cross = BartAttention(cfg, self.options, over_encoder=True, name="encoder_attn")
            told = context._replace(cache=cache)
            y, cache, over_encoder = cross(norm(x) if first else x, told, at)
            x = x + y if first else norm(x + y)
            weights = (weights, over_encoder)

        norm = style.norm("final_layer_norm")
        y = self._mlp()(norm(x) if first else x, deterministic=context.deterministic)
        x = x + y if first else norm(x + y)
        if style.layer_drop and not context.deterministic:
            kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - style.layer_drop)
            x = jnp.where(kept, x, given)
        return self.options.residual(x), cache, weights

    def _mlp(self) -> nn.Module:
        """Makes the MLP, whose products checkpoints have beside the norms."""
        cfg, style = self.config, self.config.style
        mlp = blocks.MLP(
            cfg.hidden_size,
            cfg.ffn_dim,
            cfg.activation_function,
            cfg.init_std,
            self.options.rules,
            use_bias=style.use_bias,
            inner_dropout=style.inner_dropout,
            dropout=cfg.dropout,
        )
        nn.share_scope(self, mlp)
        return mlp
