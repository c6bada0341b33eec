"""Task heads of encoders, beside those that all families share: `task_heads`."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ... import blocks
from ...core import outputs
from ...core.model import by_config
from ...documents.json_values import ConfigError
from .. import task_heads, vocabulary_heads
from ..base import PretrainedModel
from ..task_heads import HeadInputs
from . import paths
from .branch import Branch, Part, Vector, grown
from .model import EncoderPretrained, PooledEncoderModel

NEXT_SENTENCE = "cls/seq_relationship"
"""Path of the head that tells whether a sentence follows another."""
SUMMARIES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "first": lambda x: x[:, 0],
    "last": lambda x: x[:, -1],
    "mean": lambda x: jnp.mean(x, axis=1),
    "cls_index": lambda x: x[:, -1],
}
"""`summary_type` -> what it makes of hidden states [B, T, D], padding among them; the reference
takes the last place for an index that is not given."""


class EncoderHead(EncoderPretrained, task_heads.TaskHead):
    """A head on an encoder's hidden states or, if `pooling`, on its pooled output."""

    pooling: ClassVar[bool] = False
    dropout: ClassVar[str | None] = None
    """The field with the rate before a classifier; None for what the style says."""

    def base(self) -> nn.Module:
        fields = self.shared_fields
        if issubclass(self.backbone, PooledEncoderModel):
            fields["add_pooling_layer"] = self.pooling
        return self.backbone(**fields, name=self.base_model_prefix)

    def drop(self, x: jax.Array, deterministic: bool) -> jax.Array:
        style_rate = self.config.style.classifier_dropout
        rate = style_rate if self.dropout is None else getattr(self.config, self.dropout)
        return nn.Dropout(rate)(x, deterministic=deterministic)

    def linear(
        self, features: int, axes: tuple[str, str] = ("embed", "hidden"), *, use_bias: bool = True
    ) -> Part:
        """Returns what makes a product with a kernel [in, features]."""
        std = self.config.initializer_range
        return functools.partial(blocks.Linear, features, axes, std, use_bias)

    def transform_parts(self) -> dict[str, Part]:
        """Returns by their paths the layer and the norm that `predictions` begins with."""
        cfg, names = self.config, self.predictions
        dense = self.linear(cfg.embedding_size, use_bias=names.dense_bias)
        return {names.dense: dense, names.norm: cfg.style.norm}

    def transform(self, modules: Branch, x: jax.Array) -> jax.Array:
        """Applies that layer and that norm to x [..., D]."""
        names = self.predictions
        act = blocks.ACTIVATIONS[names.act or self.config.style.act]
        return modules.at(names.norm)(act(modules.at(names.dense)(x)))


class PredictionHead(EncoderHead, vocabulary_heads.VocabularyHead):
    """A head with a logit for every token of the vocabulary, by `predictions`."""

    @property
    def is_tied(self) -> bool:
        """Whether the product with the vocabulary is by the table of words."""
        return self.config.tie_word_embeddings

    output_embeddings_path = by_config(lambda self: self.predictions.decoder)
    lm_head_path = by_config(lambda self: self.predictions.whole)

    def prediction_parts(self) -> dict[str, Part]:
        """Returns the parts of the head by their paths."""
        cfg, names = self.config, self.predictions
        parts = self.transform_parts()
        if not self.is_tied:
            use_bias = names.bias is not None and not names.bias_apart
            axes = ("embed", "vocab")
            parts[names.decoder] = self.linear(cfg.vocab_size, axes, use_bias=use_bias)
        if names.bias is not None and (self.is_tied or names.bias_apart):
            parts[names.bias] = Vector(cfg.vocab_size, "vocab")
        return parts

    def predict(self, modules: Branch, base: Any, x: jax.Array) -> jax.Array:
        """Projects x [B, T, D] to logits [B, T, V], or defers them."""
        names, x = self.predictions, self.transform(modules, x)
        by = base.token_table() if self.is_tied else modules.at(names.decoder)
        bias = None
        if names.bias is not None and (self.is_tied or names.bias_apart):
            bias = modules.at(names.bias)
        return self.logits_by(vocabulary_heads.Projection(by, bias), x)

    def vocabulary(self, base: nn.Module, x: jax.Array) -> jax.Array:
        return self.predict(grown(self, self.prediction_parts()), base, x)


class MaskedLM(PredictionHead, vocabulary_heads.MaskedLM):
    """tokens [B, T] -> logits [B, T, V] of the token in each place."""


class PreTraining(PredictionHead, task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, T, V] of the token in each place, and [B, 2]: the second sentence
    follows the first, or is another."""

    loss_kind = "pretraining"
    pooling = True

    def head(self, base, out, given) -> outputs.PreTrainingOutput:
        more: dict[str, Part] = {NEXT_SENTENCE: self.linear(2, ("embed", "labels"))}
        modules = grown(self, self.prediction_parts() | more)
        return outputs.PreTrainingOutput.of(
            out,
            prediction_logits=self.predict(modules, base, out.last_hidden_state),
            seq_relationship_logits=modules.at(NEXT_SENTENCE)(out.pooler_output),
        )


class CausalLM(PredictionHead, vocabulary_heads.CausalLM):
    """tokens [B, T] -> logits [B, T, V] of the token after each, by an encoder that
    `is_decoder`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_causal:
            name = type(self).__name__
            masked = f"{name.removesuffix('LMHeadModel').removesuffix('ForCausalLM')}ForMaskedLM"
            raise ConfigError(
                f"{name} generates from left to right, and its config does not say is_decoder: "
                f"give is_decoder=True, or use {masked}"
            )


class FirstTokenHead(EncoderHead):
    """A head that labels sequences by two layers on their first tokens, `classifier`."""

    classifier: ClassVar[paths.Classifier] = paths.Classifier()

    def label(self, out: outputs.BaseOutput, given: HeadInputs, labels: int) -> jax.Array:
        cfg, names, x = self.config, self.classifier, out.last_hidden_state[:, 0]
        parts = {
            names.dense: self.linear(cfg.hidden_size),
            names.out: self.linear(labels, ("embed", "labels")),
        }
        modules = grown(self, parts)
        x = self.drop(x, given.deterministic) if names.drop_first else x
        x = blocks.ACTIVATIONS[names.act or cfg.style.act](modules.at(names.dense)(x))
        return modules.at(names.out)(self.drop(x, given.deterministic))


class FirstTokenClassification(FirstTokenHead, task_heads.SequenceClassification):
    """tokens [B, T] -> logits [B, labels], read off the first token by two layers,
    `classifier`."""


class TokenClassification(EncoderHead, task_heads.TokenClassification):
    """tokens [B, T] -> logits [B, T, labels]."""


class QuestionAnswering(EncoderHead, task_heads.QuestionAnswering):
    """tokens [B, T] -> logits [B, T] of the first and of the last token of the answer."""


class PooledClassification(EncoderHead, task_heads.SequenceClassification):
    """tokens [B, T] -> logits [B, labels], read off the pooled output of the backbone."""

    pooling = True


class MultipleChoice(EncoderHead, task_heads.MultipleChoice):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off the pooled outputs."""

    pooling = True


ENCODER_CLASSES: dict[str, type[PretrainedModel]] = {
    "Pretrained": EncoderPretrained,
    "Model": PooledEncoderModel,
    "ForPreTraining": PreTraining,
    "ForMaskedLM": MaskedLM,
    "ForCausalLM": CausalLM,
    "LMHeadModel": CausalLM,
    "ForSequenceClassification": PooledClassification,
    "ForMultipleChoice": MultipleChoice,
    "ForTokenClassification": TokenClassification,
    "ForQuestionAnswering": QuestionAnswering,
}
"""How a class's name ends -> what the class is, for `families.classes_of`."""
