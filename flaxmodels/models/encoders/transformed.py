"""Heads that classify what has gone through the first layer and norm of the head over the
vocabulary, as ModernBERT's do."""

import jax
import jax.numpy as jnp

from ...core import outputs
from .. import task_heads
from ..base import PretrainedModel
from .branch import grown
from .heads import EncoderHead


class TransformedHead(EncoderHead):
    """A classifier, dropped before, of what `transform` makes."""

    def logits(self, x: jax.Array, labels: int, deterministic: bool) -> jax.Array:
        """Projects x [..., D] to logits [..., labels]."""
        x = self.transform(grown(self, self.transform_parts()), x)
        return self.classify(self.drop(x, deterministic), labels)


class SequenceClassification(TransformedHead, task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, labels], read off the first token or off the mean of them, as
    `config.classifier_pooling` says."""

    loss_kind = "sequence_classification"

    def head(self, base, out, given) -> outputs.LogitsOutput:
        x = out.last_hidden_state
        mean = self.config.classifier_pooling == "mean"
        x = task_heads.mean_of_tokens(x, given.attention_mask) if mean else x[:, 0]
        logits = self.logits(x, self.config.num_labels, given.deterministic)
        return outputs.LogitsOutput.of(out, logits=logits)


class TokenClassification(TransformedHead, task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, T, labels]."""

    loss_kind = "token_classification"

    def head(self, base, out, given) -> outputs.LogitsOutput:
        logits = self.logits(out.last_hidden_state, self.config.num_labels, given.deterministic)
        return outputs.LogitsOutput.of(out, logits=logits)


class QuestionAnswering(TransformedHead, task_heads.SimpleHead):
    """tokens [B, T] -> logits [B, T] of the first and of the last token of the answer."""

    loss_kind = "question_answering"

    def head(self, base, out, given) -> outputs.QuestionAnsweringOutput:
        logits = self.logits(out.last_hidden_state, 2, given.deterministic)
        start, end = logits[..., 0], logits[..., 1]
        return outputs.QuestionAnsweringOutput.of(out, start_logits=start, end_logits=end)


class MultipleChoice(TransformedHead, task_heads.MultipleChoice):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off the first token that is no
    padding or off the mean of them, as `config.classifier_pooling` says."""

    def choose(self, out: outputs.BaseOutput, given: task_heads.HeadInputs) -> jax.Array:
        x, mask = out.last_hidden_state, given.attention_mask
        if self.config.classifier_pooling == "mean":
            x = task_heads.mean_of_tokens(x, mask)
        elif mask is None:
            x = x[:, 0]
        else:
            first = jnp.argmax(jnp.asarray(mask).astype(bool), axis=1)
            x = jnp.take_along_axis(x, first[:, None, None], axis=1)[:, 0]
        return self.logits(x, 1, given.deterministic)


TRANSFORMED_CLASSES: dict[str, type[PretrainedModel]] = {
    "ForSequenceClassification": SequenceClassification,
    "ForTokenClassification": TokenClassification,
    "ForQuestionAnswering": QuestionAnswering,
    "ForMultipleChoice": MultipleChoice,
}
"""How a class's name ends -> what the class is, for `families.classes_of`."""
