"""Task heads: what follows a backbone to make logits. A family's class names its backbone, and
where it differs."""

import operator
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from ..blocks.inputs import as_array
from ..core import outputs
from ..core.deferred import DeferredLogits, placed, shaped
from ..params.tree.weights import Weight
from ..params.types import PyTree
from .base import PretrainedModel
from .decoder import Inputs
from .decoder_style import LogitStyle


class HeadInputs(NamedTuple):
    """What a head may read beside the output of its backbone: arguments of the model, as `Inputs`
    describes them."""

    input_ids: jax.Array | None
    attention_mask: jax.Array | None
    deterministic: bool


class TaskHead(PretrainedModel):
    """A model made of a backbone, under the name `base_model_prefix`, and what follows it."""

    backbone: ClassVar[type[PretrainedModel]]

    def base(self) -> nn.Module:
        """Makes the backbone, as a submodule."""
        return self.backbone(**self.shared_fields, name=self.base_model_prefix)

    def in_backbone(self, path: str) -> str:
        return f"{self.base_model_prefix}/{path}"

    def classify(
        self, x: jax.Array, labels: int, name: str = "classifier", *, use_bias: bool = True
    ) -> jax.Array:
        """Projects x [..., D] to logits [..., labels]."""
        std = self.config.initializer_range
        axes = ("embed", "labels")
        return blocks.Linear(labels, axes, std, use_bias=use_bias, name=name)(x)

    def drop(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Applies dropout before a classifier: `classifier_dropout`, or if that is None the rate of
        hidden states, or 0.1 in a family without one."""
        cfg = self.config
        rate = cfg.classifier_dropout
        if rate is None:
            rate = cfg.hidden_dropout if "hidden_dropout" in cfg.names() else 0.1
        return nn.Dropout(rate)(x, deterministic=deterministic)

    def label(self, out: Any, given: HeadInputs, labels: int) -> jax.Array:
        """Makes logits [B, labels] of sequences, of the backbone's `PooledOutput`."""
        return self.classify(self.drop(out.pooler_output, given.deterministic), labels)


class SimpleHead(TaskHead):
    """A head whose arguments are those of its backbone."""

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        **inputs: Unpack[Inputs],
    ) -> outputs.Output:
        base = self.base()
        out = base(input_ids, attention_mask, **inputs)
        deterministic = inputs.get("deterministic", True)
        return self.head(base, out, HeadInputs(input_ids, attention_mask, deterministic))

    def head(self, base: nn.Module, out: Any, given: HeadInputs) -> outputs.Output:
        """Makes the model's output of the backbone's `BaseOutput`; makes its own submodules."""
        return outputs.LogitsOutput.of(out, logits=self.logits(base, out, given))

    def logits(self, base: nn.Module, out: Any, given: HeadInputs) -> jax.Array:
        """Makes the logits of such an output."""
        raise TypeError(f"{type(self).__name__} defines no logits")


class Projection(NamedTuple):
    """What multiplies hidden states with a vocabulary.

    Attributes:
        by: a module with a kernel [D, V], or a table [V, D].
        bias: [V], is added to the product, of a module without one of its own.
    """

    by: blocks.Linear | jax.Array | Weight
    bias: jax.Array | None = None

    def products(self, x: jax.Array) -> jax.Array:
        """Multiplies x [..., D] -> [..., V]."""
        by = self.by
        y = by(x) if isinstance(by, blocks.Linear) else blocks.contract(x, by, 1)
        return y if self.bias is None else blocks.with_bias(y, self.bias)

    def deferred(self, x: jax.Array, **others: Any) -> DeferredLogits:
        """Returns what makes the logits of x [..., D] later; `others` are fields of it."""
        if not isinstance(self.by, blocks.Linear):
            return DeferredLogits(x, self.by, self.bias, axis=1, bias_apart=True, **others)
        kernel, own = self.by.params(x.shape[-1])
        apart = self.bias is not None
        assert not apart or own is None  # no family adds two
        return DeferredLogits(x, kernel, self.bias if apart else own, bias_apart=apart, **others)


class VocabularyHead(TaskHead):
    """A head with a logit for every token of the vocabulary."""

    output_embeddings_path = "lm_head"
    lm_head_path = "lm_head"

    @property
    def logit_style(self) -> LogitStyle:
        """The bias, factor and cap that make logits of the product with the vocabulary."""
        return LogitStyle()

    @property
    def logit_count(self) -> int:
        """V: the tokens that there are logits of."""
        return self.config.vocab_size

    def vocabulary(self, base: nn.Module, x: jax.Array) -> jax.Array:
        """Projects x [B, T, D] to logits [B, T, V], by the embedding table if it is tied;
        `DeferredLogits` of them if the model says so."""
        return self.logits_by(self.projection(base), x)

    def projection(self, base: Any) -> Projection:
        """Makes what multiplies hidden states with the vocabulary."""
        use_bias, size, name = self.logit_style.use_bias, self.logit_count, self.lm_head_path
        if not self.config.tie_word_embeddings:
            std, axes = self.config.initializer_range, ("embed", "vocab")
            return Projection(blocks.Linear(size, axes, std, use_bias, name=name))
        bias = blocks.Bias(size, ("vocab",), name=name)() if use_bias else None
        return Projection(base.token_table(), bias)

    def logits_by(self, projection: Projection, x: jax.Array) -> jax.Array:
        """Makes the logits of hidden states x [B, T, D], or defers them: every head over a
        vocabulary ends here."""
        style, defer = self.logit_style, self.defer_logits
        if not defer:
            logits = shaped(projection.products(x), style.scale, style.softcap)
            return placed(logits, self.rules)
        fields = {"scale": style.scale, "softcap": style.softcap, "rules": self.rules}
        later: Any = projection.deferred(x, **fields, chunk=None if defer is True else defer)
        return later


class CausalLM(VocabularyHead):
    """tokens [B, T] -> logits [B, T, V] of the token after each."""

    loss_kind = "causal_lm"

    @classmethod
    def can_generate(cls) -> bool:
        return True

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        *,
        logits_to_keep: int = 0,
        **inputs: Unpack[Inputs],
    ) -> outputs.LogitsOutput:
        """Computes the logits of all tokens, or of the last `logits_to_keep` if that is not 0."""
        base = self.base()
        out = base(input_ids, attention_mask, **inputs)
        logits = self.vocabulary(base, last(out.last_hidden_state, logits_to_keep))
        return outputs.LogitsOutput.of(out, logits=logits)


def last(x: jax.Array, logits_to_keep: int) -> jax.Array:
    """Returns the last `logits_to_keep` places of x [B, T, D]; all if that is 0."""
    expected = f"logits_to_keep is {logits_to_keep!r}; expected 0 for all, or how many"
    try:
        keep = operator.index(logits_to_keep)
    except TypeError:
        raise TypeError(f"{expected}, static") from None
    if isinstance(logits_to_keep, bool):
        raise TypeError(expected)
    if keep < 0:
        raise ValueError(expected)
    return x[:, -keep:]


def mean_of_tokens(x: jax.Array, attention_mask: jax.Array | None) -> jax.Array:
    """Returns the mean of x [B, T, D] over the places that are tokens -> [B, D].

    Args:
        attention_mask: [B or 1, T], 1 for tokens; None for all.

    Raises:
        ValueError: a mask over pairs of tokens, which does not say which of them count.
    """
    if attention_mask is None:
        return x.mean(1)
    mask = jnp.asarray(attention_mask)
    if mask.ndim != 2:
        raise ValueError(
            f"attention_mask has shape {mask.shape}: a mean over tokens needs one over them, [B, T]"
        )
    mask = mask.astype(bool).astype(x.dtype)[..., None]
    return (x * mask).sum(1) / mask.sum(1)


class MaskedLM(VocabularyHead, SimpleHead):
    """tokens [B, T] -> logits [B, T, V] of the token in each place."""

    loss_kind = "masked_lm"

    def logits(self, base, out, given) -> jax.Array:
        return self.vocabulary(base, out.last_hidden_state)


class LastTokenClassification(SimpleHead):
    """tokens [B, T] -> logits [B, labels], read off the last token that is not padding."""

    loss_kind = "sequence_classification"

    def logits(self, base, out, given) -> jax.Array:
        x = self._last_token(out.last_hidden_state, given.input_ids)
        return self.classify(x, self.config.num_labels, "score", use_bias=False)

    def _last_token(self, x: jax.Array, input_ids: jax.Array | None) -> jax.Array:
        pad = self.config.pad_token_id
        if pad is None and x.shape[0] != 1:
            raise ValueError(
                f"{type(self).__name__}: config.pad_token_id is None, so where each sequence of a "
                "batch ends is not known; set it, or give one sequence at a time"
            )
        if pad is None or input_ids is None:
            return x[:, -1]
        places = jnp.arange(x.shape[1])[None]
        last = jnp.argmax(jnp.where(jnp.asarray(input_ids) != pad, places, 0), axis=-1)
        return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]


class SequenceClassification(SimpleHead):
    """tokens [B, T] -> logits [B, labels], read off the pooled output of the backbone."""

    loss_kind = "sequence_classification"

    def logits(self, base, out, given) -> jax.Array:
        return self.label(out, given, self.config.num_labels)


class OverChoices(PretrainedModel):
    """A model whose inputs have an axis for choices, [B, C, T]."""

    def dummy_inputs(self) -> dict[str, jax.Array]:
        return {self.main_input_name: jnp.zeros((1, 1, 1), jnp.int32)}


class MultipleChoice(TaskHead, OverChoices):
    """Tokens of several choices [B, C, T] -> logits [B, C], read off the pooled outputs; hidden
    states and attentions have the choices folded into the batch."""

    loss_kind = "multiple_choice"

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        **inputs: Unpack[Inputs],
    ) -> outputs.LogitsOutput:
        tokens = {"input_ids": input_ids, "attention_mask": attention_mask}
        lead, folded = fold_choices(tokens | inputs)
        out = self.base()(**folded)
        ids, mask = folded["input_ids"], folded["attention_mask"]
        logits = self.label(out, HeadInputs(ids, mask, inputs.get("deterministic", True)), 1)
        return outputs.LogitsOutput.of(out, logits=logits.reshape(lead))


class TokenClassification(SimpleHead):
    """tokens [B, T] -> logits [B, T, labels]."""

    loss_kind = "token_classification"
    classifier_name: ClassVar[str] = "classifier"

    def logits(self, base, out, given) -> jax.Array:
        x = self.drop(out.last_hidden_state, given.deterministic)
        return self.classify(x, self.config.num_labels, self.classifier_name)


class QuestionAnswering(SimpleHead):
    """tokens [B, T] -> logits [B, T] of the first and of the last token of the answer."""

    loss_kind = "question_answering"

    def head(self, base, out, given) -> outputs.QuestionAnsweringOutput:
        logits = self.logits(base, out, given)
        start, end = logits[..., 0], logits[..., 1]
        return outputs.QuestionAnsweringOutput.of(out, start_logits=start, end_logits=end)

    def logits(self, base, out, given) -> jax.Array:
        return self.classify(out.last_hidden_state, 2, "qa_outputs")


DECODER_HEADS: dict[str, type[TaskHead]] = {
    "ForCausalLM": CausalLM,
    "LMHeadModel": CausalLM,
    "ForSequenceClassification": LastTokenClassification,
    "ForTokenClassification": TokenClassification,
    "ForQuestionAnswering": QuestionAnswering,
}
"""End of a class's name -> its head, of families that generate from left to right."""

_FOLDED = {"input_ids": 1, "attention_mask": 1, "token_type_ids": 1, "position_ids": 1}
_FOLDED |= {"inputs_embeds": 2}


def fold_choices(inputs: Mapping[str, PyTree]) -> tuple[tuple[int, ...], dict[str, PyTree]]:
    """Folds the axes of arguments over choices [B, C, T] into one.

    Returns:
        (B, C), and the arguments over [B * C, T].

    Raises:
        ValueError: an argument without these axes, or with others than the rest.
    """
    lead, folded = None, dict(inputs)
    for name, kept in _FOLDED.items():
        if (x := as_array(name, inputs.get(name))) is None:
            continue
        shape = x.shape
        if len(shape) != 2 + kept or 0 in shape or lead not in (None, shape[:2]):
            form = ["B", "C"] if lead is None else list(lead)
            form = ", ".join(map(str, [*form, "T", "D"][: 2 + kept]))
            raise ValueError(
                f"{name} has shape {shape}: expected [{form}], the tokens of C choices, nothing "
                "of it empty"
            )
        lead = shape[:2]
        folded[name] = x.reshape(-1, *shape[2:])
    return lead or (), folded
