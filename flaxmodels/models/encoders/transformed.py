"""Heads that classify what has gone through the first layer and norm of the head over the
vocabulary, as ModernBERT's do."""

import jax
import jax.numpy as jnp

from ...core import outputs
from .. import task_heads
from ..base import PretrainedModel
from ..task_heads import HeadInputs
from .branch import grown
from .heads import EncoderHead


class TransformedHead(EncoderHead):
    """A classifier, dropped before, of what `transform` makes."""

    def classified(self, x: jax.Array, labels: int, deterministic: bool) -> jax.Array:
        """Projects x [..., D] to logits [..., labels]."""
        x = self.transform(grown(self, self.transform_parts()), x)
        return self.classify(self.drop(x, deterministic), labels)


class SequenceClassification(TransformedHead, task_heads.SequenceClassification):
    """tokens [B, T] -> logits [B, labels], read off the first token or off the mean of them, as
    `config.classifier_pooling` says."""

    def label(self, out: outputs.BaseOutput, given: HeadInputs, labels: int) -> jax.Array:
        x = out.last_hidden_state
        mean = self.config.classifier_pooling == "mean"
        x = task_heads.mean_of_tokens(x, given.attention_mask) if mean else x[:, 0]
        return self.classified(x, labels, given.deterministic)


class TokenClassification(TransformedHead, task_heads.TokenClassification):
    """tokens [B, T] -> logits [B, T, labels]."""

    def logits(self, base, out, given) -> jax.Array:
        return self.classified(out.last_hidden_state, self.config.num_labels, given.deterministic)


class QuestionAnswering(TransformedHead, task_heads.QuestionAnswering):
    """tokens [B, T] -> logits [B, T] of the first and of the last token of the answer."""

    def logits(self, base, out, given) -> jax.Array:
        return self.classified(out.last_hidden_state, 2, given.deterministic)


class MultipleChoice(TransformedHead, task_heads.MultipleChoice):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off the first token that is no
    padding or off the mean of them, as `config.classifier_pooling` says."""

    def label(self, out: outputs.BaseOutput, given: HeadInputs, labels: int) -> jax.Array:
        x, mask = out.last_hidden_state, given.attention_mask
        if self.config.classifier_pooling == "mean":
            x = task_heads.mean_of_tokens(x, mask)
        elif mask is None:
            x = x[:, 0]
        else:
            first = jnp.argmax(jnp.asarray(mask).astype(bool), axis=1)
            x = jnp.take_along_axis(x, first[:, None, None], axis=1)[:, 0]
        return self.classified(x, labels, given.deterministic)


TRANSFORMED_CLASSES: dict[str, type[PretrainedModel]] = {
    "ForSequenceClassification": SequenceClassification,
    "ForTokenClassification": TokenClassification,
    "ForQuestionAnswering": QuestionAnswering,
    "ForMultipleChoice": MultipleChoice,
}
"""How a class's name ends -> what the class is, for `families.classes_of`."""
