"""The layer of T5: norms before, no biases in the products, scores with a bias by distance.

Raffel et al. 2019, arXiv:1910.10683.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
from flax import linen as nn

from ... import blocks
from ... import sharding as fs
from ...config.config import Config
from ..encoders.branch import Part, grown


def relative_bias(
    config: Config, name: str | None = None, *, both_ways: bool
) -> blocks.RelativeBias:
    """Makes the table of the bias of all heads."""
    return blocks.RelativeBias(
        config.num_heads,
        config.relative_attention_num_buckets,
        config.relative_attention_max_distance,
        both_ways,
        config.initializer_range,
        name=name,
    )


def distances(mask: blocks.AttentionMask, length: int) -> jax.Array:
    """Returns int32 [T, S]: how far after each query, of T = `length`, each key stands."""
    keys = length if mask.tokens is None else mask.tokens.shape[-1]
    query, key = mask.places(length, keys)
    return key[None] - query[:, None]


class T5Attention(nn.Module):
    """(x [B, T, D], context, at) -> ([B, T, D], cache, attention weights or None)."""

    config: Config
    options: blocks.ModelOptions

    over_encoder: ClassVar[bool] = False
    """Whether keys and values are of the encoder's states."""

    def setup(self) -> None:
        cfg = self.config
        width, into, out = cfg.num_heads * cfg.d_kv, ("embed", "heads"), ("heads", "embed")
        std = cfg.initializer_range
        # queries are drawn as if scores were scaled, which they are not
        self.q = blocks.Linear(width, into, std * cfg.d_kv**-0.5, use_bias=False)
        self.k = blocks.Linear(width, into, std, use_bias=False)
        self.v = blocks.Linear(width, into, std, use_bias=False)
        std = cfg.initializer_factor * width**-0.5
        self.o = blocks.Linear(cfg.d_model, out, std, use_bias=False)
        if cfg.bias_in_every_layer and not self.over_encoder:
            self.relative_attention_bias = relative_bias(cfg, both_ways=not cfg.is_decoder)

    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        dropout = self.config.dropout_rate
        told: blocks.Scored = {"options": self.options, "scale": 1.0, "dropout": dropout}
        q = self.heads(self.q, x)
        if self.over_encoder:
            out = blocks.cross_attention(self, q, self.keys_and_values, context, at, **told)
        else:
            kv, bias = self.keys_and_values(x), self._bias(context, at, x)
            out = blocks.self_attention(self, q, *kv, context, at, bias=bias, **told)
        y, cache, weights = out
        return self.o(y), cache, weights

    def heads(self, product: blocks.Linear, x: jax.Array) -> jax.Array:
        """Projects x [..., D] to heads [..., N, H]."""
        return blocks.split_heads(product(x), self.config.d_kv)

    def keys_and_values(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Projects x [..., D] to keys and values [..., N, H]."""
        return self.heads(self.k, x), self.heads(self.v, x)

    def _bias(self, context: blocks.PassContext, at: blocks.At, x: jax.Array) -> jax.Array:
        if not self.config.bias_in_every_layer:
            return context.biases[at.kind.attention]
        far = distances(context.masks[at.kind.attention], x.shape[1])
        return self.relative_attention_bias(far, x.dtype)[None]


class T5CrossAttention(T5Attention):
    """Attention to the states of an encoder, whose distances mean nothing."""

    over_encoder = True


class _Attending(nn.Module):
    """(x [B, T, D], context, at) -> (x + dropout(attention(norm(x))), cache, weights).

    Attributes:
        attention: the class of the attention.
        inside: its name.
    """

    config: Config
    options: blocks.ModelOptions
    attention: Callable[..., nn.Module]
    inside: str

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        cfg = self.config
        y = blocks.RMSNorm(cfg.layer_norm_epsilon, name="layer_norm")(x)
        attention = self.attention(cfg, self.options, name=self.inside)
        y, cache, weights = attention(y, context, at)
        y = nn.Dropout(cfg.dropout_rate)(y, deterministic=context.deterministic)
        return self.options.residual(x + y), cache, weights


class _MLP(nn.Module):
    """x [B, T, D] -> x + dropout(mlp(norm(x)))."""

    config: Config
    rules: fs.Rules

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        cfg = self.config
        y = blocks.RMSNorm(cfg.layer_norm_epsilon, name="layer_norm")(x)
        mlp: Any = blocks.GatedMLP if cfg.is_gated else blocks.MLP
        y = mlp(
            cfg.d_model,
            cfg.d_ff,
            cfg.act,
            cfg.initializer_range,
            self.rules,
            names=("wi_0", "wi_1", "wo") if cfg.is_gated else ("wi", "wo"),
            use_bias=False,
            out_std=cfg.initializer_factor * cfg.d_ff**-0.5,
            inner_dropout=cfg.dropout_rate,
            dropout=cfg.dropout_rate,
            name="DenseReluDense",
        )(y, deterministic=deterministic)
        return x + y


class T5Layer(nn.Module):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None); where the config
    `is_decoder`, it attends to an encoder too, and the weights are a pair."""

    config: Config
    options: blocks.ModelOptions

    attention: ClassVar[Callable[..., nn.Module]] = T5Attention
    inside: ClassVar[str] = "SelfAttention"

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        cfg, options = self.config, self.options
        attending = functools.partial(_Attending, cfg, options)
        # Checkpoints number what a layer is made of.
        parts: list[Part] = [functools.partial(attending, type(self).attention, self.inside)]
        if cfg.is_decoder:
            parts.append(functools.partial(attending, T5CrossAttention, "EncDecAttention"))
        parts.append(functools.partial(_MLP, cfg, options.rules))
        modules = grown(self, {f"layer/{i}": part for i, part in enumerate(parts)})

        x, cache, weights = modules.at("layer/0")(x, context, at)
        if cfg.is_decoder:
            context = context._replace(cache=cache)
            x, cache, over_encoder = modules.at("layer/1")(x, context, at)
            weights = (weights, over_encoder)
        mlp = modules.at(f"layer/{len(parts) - 1}")
        return options.residual(mlp(x, deterministic=context.deterministic)), cache, weights
