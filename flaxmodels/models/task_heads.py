"""Task heads: what follows a backbone to make logits. A family's class names its backbone, and
where it differs."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from .. import blocks
from ..blocks.inputs import as_array
from ..core import outputs
from ..core.inputs import Inputs
from ..params.types import PyTree
from .base import PretrainedModel


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
