"""GPT-2's configuration and layers."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import sharding as fs
from ..models import config_checks
from ..models.layer_types import LayerKinds


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config(LayerKinds):
    """`config.json` of a GPT-2. `reorder_and_upcast_attn` is always so here: the attention logits
    and their softmax are float32. The `summary_*` fields are of `GPT2DoubleHeadsModel`."""

    model_type: ClassVar[str] = "gpt2"
    aliases: ClassVar = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    unsupported: ClassVar = {
        **config_checks.NO_COMPOSITES,
        "is_decoder": (False, True, None),
        "reorder_and_upcast_attn": (False, True),
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    classifier_dropout: float | None = None
    add_cross_attention: bool = False
    bos_token_id: int | None = 50256
    eos_token_id: int | tuple[int, ...] | None = 50256

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.n_embd // self.n_head

    @property
    def num_key_value_heads(self) -> int:
        """Every head has keys and values of its own."""
        return self.n_head

    @property
    def position_limit(self) -> int:
        return self.n_positions

    def validate(self) -> None:
        config_checks.multiple(self, "n_embd", of="n_head")
        config_checks.pruned_heads(self)
        config_checks.activation(self, "activation_function")
        if self.summary_activation:
            config_checks.activation(self, "summary_activation")


class GPT2Attention(nn.Module):
    config: GPT2Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x, context, at):
        cfg = self.config
        std = cfg.initializer_range
        width = blocks.num_heads(cfg, at.layer)[0] * cfg.head_dim
        qkv = blocks.Linear(3 * width, ("embed", "heads"), std, name="c_attn")(x)
        q, k, v = (blocks.split_heads(each, cfg.head_dim) for each in jnp.split(qkv, 3, axis=-1))
        if cfg.scale_attn_by_inverse_layer_idx:
            q = q / jnp.asarray(at.layer + 1, q.dtype)
        y, cache, weights = blocks.self_attention(
            self,
            q,
            k,
            v,
            context,
            at,
            options=self.options,
            scale=cfg.head_dim**-0.5 if cfg.scale_attn_weights else 1.0,
            dropout=cfg.attn_pdrop,
        )
        y = blocks.Linear(cfg.n_embd, ("heads", "embed"), residual_std(cfg), name="c_proj")(y)
        y = nn.Dropout(cfg.resid_pdrop)(y, deterministic=context.deterministic)
        return y, cache, weights


class GPT2CrossAttention(nn.Module):
    """Attends to an encoder's states, as wide as the model's own."""

    config: GPT2Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x, context, at):
        cfg, std = self.config, self.config.initializer_range

        def keys_and_values(states):
            y = blocks.Linear(2 * cfg.n_embd, ("embed", "heads"), std, name="c_attn")(states)
            k, v = (blocks.split_heads(each, cfg.head_dim) for each in jnp.split(y, 2, axis=-1))
            return k, v

        q = blocks.Linear(cfg.n_embd, ("embed", "heads"), std, name="q_attn")(x)
        scale = cfg.head_dim**-0.5 if cfg.scale_attn_weights else 1.0
        if cfg.scale_attn_by_inverse_layer_idx:
            q = q / jnp.asarray(at.layer + 1, q.dtype)
        y, cache, weights = blocks.cross_attention(
            self,
            blocks.split_heads(q, cfg.head_dim),
            keys_and_values,
            context,
            at,
            options=self.options,
            scale=scale,
            dropout=cfg.attn_pdrop,
        )
        y = blocks.Linear(cfg.n_embd, ("heads", "embed"), residual_std(cfg), name="c_proj")(y)
        y = nn.Dropout(cfg.resid_pdrop)(y, deterministic=context.deterministic)
        return y, cache, weights


class GPT2Block(nn.Module):
    """(x [B, T, D], context, at) -> (x, cache, attention weights or None)."""

    config: GPT2Config
    options: blocks.ModelOptions

    @nn.compact
    def __call__(self, x, context, at):
        cfg = self.config
        y = blocks.LayerNorm(cfg.layer_norm_epsilon, name="ln_1")(x)
        attention = GPT2Attention(cfg, self.options, name="attn")
        y, cache, weights = attention(y, context, at)
        x = x + y
        if cfg.add_cross_attention and context.has_encoder:
            y = blocks.LayerNorm(cfg.layer_norm_epsilon, name="ln_cross_attn")(x)
            cross = GPT2CrossAttention(cfg, self.options, name="crossattention")
            y, cache, over_encoder = cross(y, context._replace(cache=cache), at)
            x, weights = x + y, (weights, over_encoder)
        y = blocks.LayerNorm(cfg.layer_norm_epsilon, name="ln_2")(x)
        mlp = blocks.MLP(
            cfg.n_embd,
            4 * cfg.n_embd if cfg.n_inner is None else cfg.n_inner,
            cfg.activation_function,
            cfg.initializer_range,
            self.options.rules,
            names=("c_fc", "c_proj"),
            out_std=residual_std(cfg),
            dropout=cfg.resid_pdrop,
            name="mlp",
        )
        x = x + mlp(y, deterministic=context.deterministic)
        return fs.constrain(x, ("batch", "length", "hidden"), self.options.rules), cache, weights


def residual_std(config: GPT2Config) -> float:
    """Returns the deviation of the projections that add to the residual: smaller with depth, so
    that their sum over the layers does not start larger."""
    return config.initializer_range / math.sqrt(2 * config.n_layer)
