"""BERT: a bidirectional encoder with LayerNorm after each sublayer, learned positions, and types.

Devlin et al. 2018, arXiv:1810.04805; reference: `models/bert` of Transformers 5.23.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks, heads, outputs
from .. import params as fp
from .. import sharding as fs
from ..base import PretrainedModel
from ..config import Config
from . import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(Config):
    """`config.json` of a BERT encoder."""

    model_type: ClassVar[str] = "bert"
    unsupported: ClassVar = {
        **checks.NOT_IMPLEMENTED,
        "is_decoder": (False, None),
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

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def num_key_value_heads(self) -> int:
        return self.num_attention_heads

    @property
    def position_limit(self) -> int:
        return self.max_position_embeddings

    def validate(self) -> None:
        checks.multiple(self, "hidden_size", of="num_attention_heads")
        checks.pruned_heads(self)
        checks.activation(self, "hidden_act")


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

    def __call__(
        self, input_ids, token_type_ids, position_ids, inputs_embeds, *, dtype, tap, deterministic
    ):
        x = tap(blocks.embed_inputs(self.word_embeddings, input_ids, inputs_embeds, dtype))
        types = jnp.zeros(x.shape[:2], jnp.int32) if token_type_ids is None else token_type_ids
        places = jnp.arange(x.shape[1])[None] if position_ids is None else position_ids
        x = x + self.token_type_embeddings(types, dtype)
        x = x + jnp.broadcast_to(self.position_embeddings(places, dtype), x.shape)
        return self.dropout(self.LayerNorm(x), deterministic=deterministic)


class BertSelfAttention(nn.Module):
    config: BertConfig
    run: blocks.Run

    @nn.compact
    def __call__(self, x, index, call):
        cfg = self.config
        width = blocks.num_heads(cfg, index)[0] * cfg.head_dim

        def project(name):
            axes = ("embed", "heads")
            return blocks.Linear(width, axes, cfg.initializer_range, name=name)(x)

        y, _, weights = blocks.self_attention(
            self,
            (project("query"), project("key"), project("value")),
            None,
            index,
            head_dim=cfg.head_dim,
            scale=cfg.head_dim**-0.5,
            dropout=cfg.attention_probs_dropout_prob,
            run=self.run,
            call=call,
        )
        return y, weights


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
    def __call__(self, y, residual, call):
        cfg = self.config
        axes = (self.axis, "embed")
        y = blocks.Linear(cfg.hidden_size, axes, cfg.initializer_range, name="dense")(y)
        y = nn.Dropout(cfg.hidden_dropout_prob)(y, deterministic=call.deterministic)
        return blocks.LayerNorm(cfg.layer_norm_eps, name="LayerNorm")(y + residual)


class BertAttention(nn.Module):
    config: BertConfig
    run: blocks.Run

    @nn.compact
    def __call__(self, x, index, call):
        y, weights = BertSelfAttention(self.config, self.run, name="self")(x, index, call)
        return BertOutput(self.config, "heads", name="output")(y, x, call), weights


class BertLayer(nn.Module):
    """(x [B, T, D], no cache, index, call) -> (x, no cache, attention weights or None)."""

    config: BertConfig
    run: blocks.Run

    @nn.compact
    def __call__(self, x, cache, index, call):
        cfg, rules = self.config, self.run.rules
        up = (cfg.intermediate_size, ("embed", "mlp"), cfg.hidden_act)
        x, weights = BertAttention(cfg, self.run, name="attention")(x, index, call)
        y = BertDense(cfg, *up, name="intermediate")(x)
        y = fs.constrain(y, ("batch", "length", "mlp"), rules)
        x = BertOutput(cfg, "mlp", name="output")(y, x, call)
        return fs.constrain(x, ("batch", "length", "hidden"), rules), cache, weights


class BertEncoder(nn.Module):
    config: BertConfig
    run: blocks.Run

    def setup(self) -> None:
        cfg = self.config
        self.layer = blocks.Layers(BertLayer, cfg, cfg.num_hidden_layers, self.run)

    def __call__(self, x, call):
        return self.layer(x, None, call)


class BertPretrained(PretrainedModel):
    """What every model of the family shares."""

    config_class = BertConfig
    base_model_prefix = "bert"
    input_embeddings_path = "embeddings/word_embeddings"
    naming = fp.Naming(
        stack="layer",
        aliases=(
            (r"LayerNorm\.gamma$", "LayerNorm.weight"),
            (r"LayerNorm\.beta$", "LayerNorm.bias"),
            # Google's checkpoints
            (r"\.layer_(\d+)\.", r".layer.\1."),
            (r"(word|position|token_type)_embeddings$", r"\1_embeddings.weight"),
            (r"^cls\.squad\.output_", "qa_outputs.output_"),
            (r"^output_(weights|bias)$", r"classifier.output_\1"),
            (r"\.output_weights$", ".weight"),
            (r"\.output_bias$", ".bias"),
        ),
        tf_kernels_out_in=(r"(^|\.)output_weights$",),
        ignored=(r"embeddings\.position_ids$",),
        optional=("pooler/",),
        copies=(("cls/predictions/decoder/bias", "cls/predictions/bias"),),
    )
    tied = (
        ("cls/predictions/decoder/kernel", "bert/embeddings/word_embeddings/embedding"),
        ("cls/predictions/decoder/bias", "cls/predictions/bias"),
        ("cls/predictions/bias", "cls/predictions/decoder/bias"),
    )


class BertModel(BertPretrained):
    """tokens [B, T] -> hidden states [B, T, D] and, if `add_pooling_layer`, the first of them
    through one more layer [B, D]."""

    add_pooling_layer: bool = True

    def setup(self) -> None:
        cfg = self.config
        self.embeddings = BertEmbeddings(cfg)
        self.encoder = BertEncoder(cfg, self.run)
        if self.add_pooling_layer:
            self.pooler = BertDense(cfg, cfg.hidden_size, ("embed", "hidden"), "tanh")

    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        *,
        token_type_ids: jax.Array | None = None,
        position_ids: jax.Array | None = None,
        inputs_embeds: jax.Array | None = None,
        head_mask: jax.Array | None = None,
        deterministic: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> outputs.BaseOutput:
        """The arguments are those of `heads.Inputs`, without a cache; types are 0 if None."""
        tokens = (input_ids, token_type_ids, position_ids, inputs_embeds)
        made = {"dtype": self.dtype, "tap": self.tap, "deterministic": deterministic}
        x = self.embeddings(*tokens, **made)
        x = fs.constrain(x, ("batch", "length", "hidden"), self.rules)
        call = blocks.Call.of(self.config, deterministic, output_hidden_states, output_attentions)
        call = call._replace(
            mask=blocks.make_mask(attention_mask, length=x.shape[1]),
            head_scales=blocks.head_scales(self.config, head_mask, stacked=self.scan_layers),
        )
        x, _, entered, weights = self.encoder(x, call)
        pooled = self.pooler(x[:, 0]) if self.add_pooling_layer else None
        return outputs.backbone(call, x, entered, weights, None, pooler_output=pooled)

    def attend(self, x: jax.Array) -> jax.Array:
        """x [..., D] against the table of word embeddings -> [..., V]."""
        return self.embeddings.word_embeddings.attend(x)


class BertHead(BertPretrained, heads.Head):
    """A BERT with a head on its hidden states or, if `pooling`, on its pooled output."""

    backbone = BertModel
    pooling: ClassVar[bool] = False

    def base(self) -> nn.Module:
        fields = {**self.fields, "add_pooling_layer": self.pooling}
        return BertModel(**fields, name=self.base_model_prefix)

    def drop(self, x: jax.Array, deterministic: bool) -> jax.Array:
        rate = self.config.classifier_dropout
        rate = self.config.hidden_dropout_prob if rate is None else rate
        return nn.Dropout(rate)(x, deterministic=deterministic)


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


class BertForMaskedLM(BertHead, heads.SimpleHead):
    """tokens [B, T] -> logits [B, T, V] of the token in each place."""

    output_embeddings_path = "cls/predictions/decoder"
    lm_head_path = "cls/predictions"

    def head(self, base, out, input_ids, deterministic) -> outputs.LogitsOutput:
        cls = BertPreTrainingHeads(self.config, self.rules, name="cls")
        logits = cls.predictions(out.last_hidden_state, base.attend)
        return outputs.LogitsOutput.of(out, logits=logits)


class BertForNextSentencePrediction(BertHead, heads.SimpleHead):
    """tokens [B, T] -> logits [B, 2]: the second sentence follows the first, or is another."""

    pooling = True

    def head(self, base, out, input_ids, deterministic) -> outputs.LogitsOutput:
        cls = BertPreTrainingHeads(self.config, self.rules, name="cls")
        return outputs.LogitsOutput.of(out, logits=cls.seq_relationship(out.pooler_output))


class BertForPreTraining(BertHead, heads.SimpleHead):
    """tokens [B, T] -> the logits of `BertForMaskedLM` and of `BertForNextSentencePrediction`."""

    pooling = True
    output_embeddings_path = BertForMaskedLM.output_embeddings_path
    lm_head_path = BertForMaskedLM.lm_head_path

    def head(self, base, out, input_ids, deterministic) -> outputs.PreTrainingOutput:
        cls = BertPreTrainingHeads(self.config, self.rules, name="cls")
        return outputs.PreTrainingOutput.of(
            out,
            prediction_logits=cls.predictions(out.last_hidden_state, base.attend),
            seq_relationship_logits=cls.seq_relationship(out.pooler_output),
        )


class BertForSequenceClassification(BertHead, heads.PooledClassification):
    pooling = True


class BertForMultipleChoice(BertHead, heads.MultipleChoice):
    pooling = True


class BertForTokenClassification(BertHead, heads.TokenClassification):
    pass


class BertForQuestionAnswering(BertHead, heads.QuestionAnswering):
    pass
