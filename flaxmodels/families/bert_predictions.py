"""BERT's heads of pretraining: masked tokens, and the next sentence."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from .. import sharding as fs
from .bert_encoder import BertConfig


class BertTransform(nn.Module):
    config: BertConfig

    def setup(self) -> None:
        cfg = self.config
        self.dense = blocks.Linear(cfg.hidden_size, ("embed", "hidden"), cfg.initializer_range)
        self.LayerNorm = blocks.LayerNorm(cfg.layer_norm_eps)

    def __call__(self, x):
        return self.LayerNorm(blocks.ACTIVATIONS[self.config.hidden_act](self.dense(x)))


class BertPredictions(nn.Module):
    """x [B, T, D] -> logits [B, T, V], by `attend` if the head is tied to the word embeddings."""

    config: BertConfig
    rules: fs.Rules

    @nn.compact
    def __call__(self, x: jax.Array, attend: Callable[[jax.Array], jax.Array]) -> jax.Array:
        cfg = self.config
        x = BertTransform(cfg, name="transform")(x)
        if cfg.tie_word_embeddings:
            shape = (cfg.vocab_size,)
            bias = blocks.parameter(self, "bias", nn.initializers.zeros, shape, ("vocab",))
            logits = attend(x)
            logits = logits + jnp.broadcast_to(bias.astype(x.dtype), logits.shape)
        else:
            axes = ("embed", "vocab")
            std = cfg.initializer_range
            logits = blocks.Linear(cfg.vocab_size, axes, std, name="decoder")(x)
        return fs.constrain(logits, ("batch", "length", "vocab"), self.rules)


class BertPreTrainingHeads(nn.Module):
    """Logits of the masked tokens [B, T, V], of the next sentence [B, 2], or of both."""

    config: BertConfig
    rules: fs.Rules

    def setup(self) -> None:
        std = self.config.initializer_range
        self.predictions = BertPredictions(self.config, self.rules)
        self.seq_relationship = blocks.Linear(2, ("embed", "labels"), std)
