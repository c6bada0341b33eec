"""The layer of encoders that differ by their `EncoderStyle`: self-attention, attention to an
encoder where a decoder has it, and an MLP, each normed before or after."""

import functools
from typing import Unpack

import jax
from flax import linen as nn

from ... import blocks
from ... import sharding as fs
from ...config.config import Config
from . import paths
from .branch import Branch, Part, grown
from .style import EncoderStyle


class EncoderLayer(nn.Module):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None)."""

    config: Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x: jax.Array, context: blocks.PassContext, at: blocks.At):
        style: EncoderStyle = self.config.style_of(at.form)
        own, cross = style.attention, style.attention.under(style.cross)
        over_encoder = context.has_encoder and self.config.add_cross_attention
        heads = blocks.num_heads(self.config, at.layer)[0]
        parts = self._attention_parts(own, heads) | self._mlp_parts()
        if over_encoder:
            parts |= self._attention_parts(cross, self.config.num_attention_heads)
        modules = grown(self, parts)

        x, cache, weights = self._attend(modules, own, x, context, at)
        if over_encoder:
            context = context._replace(cache=cache)
            x, cache, over = self._attend(modules, cross, x, context, at, over_encoder=True)
            weights = (weights, over)
        x = self._mlp(modules, x, context.deterministic)
        return self.options.residual(x), cache, weights

    def _linear(self, features: int, axes: tuple[str, str], use_bias: bool) -> Part:
        std = self.config.initializer_range
        return functools.partial(blocks.Linear, features, axes, std, use_bias)

    def _attention_parts(self, names: paths.Attention, heads: int) -> dict[str, Part]:
        cfg, style = self.config, self.config.style
        project = self._linear(heads * cfg.head_dim, ("embed", "heads"), style.qkv_bias)
        parts: dict[str, Part] = {
            names.query: project,
            names.key: project,
            names.value: project,
            names.out: self._linear(cfg.hidden_size, ("heads", "embed"), style.out_bias),
        }
        return parts if names.norm is None else parts | {names.norm: style.norm}

    def projected(self, modules: Branch, path: str, x: jax.Array) -> jax.Array:
        """Projects x [B, S, D] to queries, keys or values [B, S, N, H], by the module at a path."""
        return blocks.split_heads(modules.at(path)(x), self.config.head_dim)

    def score_bias(
        self, modules: Branch, q: jax.Array, k: jax.Array, context: blocks.PassContext
    ) -> jax.Array | None:
        """Returns what is added to the scores of q [B, T, N, H] and k [B, S, N, H]: [B or 1, N, T,
        S]; None for what the context says."""
        return None

    def self_attention(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        context: blocks.PassContext,
        at: blocks.At,
        bias: jax.Array | None,
        **told: Unpack[blocks.Scored],
    ) -> tuple[jax.Array, blocks.Cache | None, jax.Array | None]:
        """Attends as `blocks.self_attention`."""
        return blocks.self_attention(self, q, k, v, context, at, bias=bias, **told)

    def _attend(
        self,
        modules: Branch,
        names: paths.Attention,
        x: jax.Array,
        context: blocks.PassContext,
        at: blocks.At,
        *,
        over_encoder: bool = False,
    ) -> tuple[jax.Array, blocks.Cache | None, jax.Array | None]:
        cfg, style = self.config, self.config.style

        def norm(x: jax.Array) -> jax.Array:
            return x if names.norm is None else modules.at(names.norm)(x)

        def keys_and_values(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            key, value = (self.projected(modules, path, x) for path in (names.key, names.value))
            return key, value

        y = norm(x) if style.norm_first else x
        q = self.projected(modules, names.query, y)
        scale = cfg.head_dim**-0.5 if style.score_scale is None else style.score_scale
        dropout = style.score_dropout
        told: blocks.Scored = {"options": self.options, "scale": scale, "dropout": dropout}
        if over_encoder:
            out = blocks.cross_attention(self, q, keys_and_values, context, at, **told)
        else:
            k, v = keys_and_values(y)
            if style.rotate_values:
                turn, table = blocks.apply_rotary, context.rotations
                v = at.of("rotary", lambda name: v if name is None else turn(v, table[name]))
            bias = self.score_bias(modules, q, k, context)
            out = self.self_attention(q, k, v, context, at, bias, **told)
        y, cache, weights = out
        y = modules.at(names.out)(y)
        x = x + nn.Dropout(style.attention_dropout)(y, deterministic=context.deterministic)
        return self.options.residual(x if style.norm_first else norm(x)), cache, weights

    def _mlp_parts(self) -> dict[str, Part]:
        cfg, style, names = self.config, self.config.style, self.config.style.mlp
        widen = self._linear(cfg.intermediate_size, ("embed", "mlp"), style.mlp_bias)
        gate = {} if names.gate is None else {names.gate: widen}
        bias = style.mlp_bias if style.down_bias is None else style.down_bias
        down = self._linear(cfg.hidden_size, ("mlp", "embed"), bias)
        return gate | {names.up: widen, names.down: down, names.norm: style.norm}

    def _mlp(self, modules: Branch, x: jax.Array, deterministic: bool) -> jax.Array:
        style, names = self.config.style, self.config.style.mlp
        norm, act = modules.at(names.norm), blocks.ACTIVATIONS[style.act]
        y = norm(x) if style.norm_first else x

        def widen(name: str) -> jax.Array:
            return blocks.named(modules.at(name)(y), "mlp_hidden")

        inner = widen(names.up)
        inner = act(inner) if names.gate is None else act(widen(names.gate)) * inner
        inner = fs.constrain(inner, ("batch", "length", "mlp"), self.options.rules)
        if style.inner_dropout:
            inner = nn.Dropout(style.inner_dropout)(inner, deterministic=deterministic)
        y = modules.at(names.down)(inner)
        x = x + nn.Dropout(style.mlp_dropout)(y, deterministic=deterministic)
        return x if style.norm_first else norm(x)
