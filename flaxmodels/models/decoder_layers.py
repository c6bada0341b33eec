"""The layer of decoders that differ by their `Style`: self-attention and an MLP, each normed before
or after, one after the other or side by side."""

from typing import Any, ClassVar

import jax
from flax import linen as nn

from .. import blocks
from ..config.config import Config
from .decoder_style import Style


class DecoderAttention(nn.Module):
    """(x [B, T, D], context, at) -> ([B, T, D], cache, attention weights or None)."""

    config: Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        cfg, style = self.config, self.config.style
        num_heads, num_kv_heads = blocks.num_heads(cfg, at.layer)

        def project(heads: int, axis: str, name: str) -> jax.Array:
            features, axes = heads * cfg.head_dim, ("embed", axis)
            std, bias = cfg.initializer_range, style.qkv_bias
            return blocks.Linear(features, axes, std, use_bias=bias, name=name)(x)

        q, k = project(num_heads, "heads", "q_proj"), project(num_kv_heads, "kv_heads", "k_proj")
        v = project(num_kv_heads, "kv_heads", "v_proj")
        q, k = (_normed(style, i, x, cfg.head_dim) for i, x in enumerate((q, k)))
        y, cache, weights = blocks.self_attention(
            self,
            q,
            k,
            blocks.split_heads(v, cfg.head_dim),
            context,
            at,
            options=self.options,
            scale=cfg.head_dim**-0.5 if style.score_scale is None else style.score_scale,
            dropout=cfg.attention_dropout if style.score_dropout is None else style.score_dropout,
            softcap=style.score_softcap,
        )
        axes, std = ("heads", "embed"), style.out_std or cfg.initializer_range
        out = blocks.Linear(cfg.hidden_size, axes, std, use_bias=style.out_bias, name=style.out)
        return out(y), cache, weights


class DecoderLayer(nn.Module):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None)."""

    attention: ClassVar[type[nn.Module]] = DecoderAttention

    config: Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        style: Style = self.config.style

        def norm(name: str | None, x: jax.Array) -> jax.Array:
            return x if name is None else style.norm(name)(x)

        def added(name: str | None, y: jax.Array, dropout: float) -> jax.Array:
            y = nn.Dropout(dropout)(norm(name, y), deterministic=context.deterministic)
            return y if style.residual_scale is None else blocks.scaled(y, style.residual_scale)

        normed = norm(style.attention_in, x)
        attention = self.attention(self.config, self.options, name=style.attention)
        y, cache, weights = attention(normed, context, at)
        y = added(style.attention_out, y, style.added_dropouts[0])
        if not style.parallel:
            x = self.options.residual((normed if style.residual_normed else x) + y)
            x, cache, weights = self.attend_more(x, cache, weights, context, at)
            normed = norm(style.mlp_in, x)
        elif style.mlp_in is not None:
            normed = norm(style.mlp_in, x)
        z = added(style.mlp_out, self._mlp(normed), style.added_dropouts[1])
        if style.parallel:
            z = nn.Dropout(style.sum_dropout)(y + z, deterministic=context.deterministic)
        x = (normed if style.residual_normed else x) + z
        return self.options.residual(x), cache, weights

    def attend_more(self, x, cache, weights, context: blocks.PassContext, at: blocks.At):
        """Applies what stands between attention and MLP, such as attention to an encoder; returns x
        [B, T, D], the cache and the weights of both."""
        return x, cache, weights

    def _mlp(self, x: jax.Array) -> jax.Array:
        cfg, style = self.config, self.config.style
        shape = (cfg.hidden_size, cfg.intermediate_size, style.act, cfg.initializer_range)
        told: Any = {"names": style.mlp, "use_bias": style.mlp_bias, "name": "mlp"}
        if len(style.mlp) == 3:
            return blocks.GatedMLP(*shape, self.options.rules, **told)(x)
        return blocks.MLP(*shape, self.options.rules, out_std=style.out_std, **told)(x)


def _normed(style: Style, i: int, x: jax.Array, head_dim: int) -> jax.Array:
    """Splits x [B, T, N*H], queries (`i` = 0) or keys (1), into heads, normed as `style.qk_norm`
    says."""
    if (norm := style.qk_norm) is None:
        return blocks.split_heads(x, head_dim)
    axes = (("heads", "kv_heads")[i], "norm") if norm.over == "heads" else ("norm",)
    module = style.norm(norm.names[i], use_bias=norm.use_bias, axes=axes)
    if norm.over == "all":
        return blocks.split_heads(module(x), head_dim)
    return module(blocks.split_heads(x, head_dim))
