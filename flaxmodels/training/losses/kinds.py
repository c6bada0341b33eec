"""The kinds of heads, and what each is trained by: the table that `Model.loss_kind` names a row
of."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from ...core.model import Model
from . import measures
from .measures import Measure, Terms

Choice = Measure | Callable[[jax.Array, Terms], Measure]
"""How labels are compared, or what decides it."""


class Target(NamedTuple):
    """Labels, and the logits that they are compared with.

    Attributes:
        labels: their name in a batch.
        output: the field of the model's output, which names the part of the loss too.
        measure: how they are compared.
        weight: of the part in the loss.
        optional: the loss may do without it.
        ready: a name for labels that are aligned already, which go before the others.
        other: what Transformers' TensorFlow classes call the labels.
    """

    labels: str
    output: str
    measure: Choice
    weight: float = 1.0
    optional: bool = False
    ready: str | None = None
    other: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names that the labels may have, the first before the others."""
        return (self.labels,) if self.ready is None else (self.ready, self.labels)

    def measured(self, labels: jax.Array, terms: Terms) -> Measure:
        """Returns how these labels are compared."""
        return self.measure if isinstance(self.measure, Measure) else self.measure(labels, terms)


class Kind(NamedTuple):
    """What a head is trained by.

    Attributes:
        targets: its labels.
        makes_decoder_inputs: they are the decoder's input too, shifted to the right.
        ignores_padding: labels of places that `attention_mask` calls padding are ignored.
        in_tf: Transformers' TensorFlow classes of the kind have a loss.
    """

    targets: tuple[Target, ...]
    makes_decoder_inputs: bool = False
    ignores_padding: bool = False
    in_tf: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Names that its labels may have."""
        return tuple(name for target in self.targets for name in target.names)


def _one(measure: Choice, **fields: bool) -> Kind:
    return Kind((Target("labels", "logits", measure),), **fields)


def _answers(end: str) -> Target:
    labels, output = f"{end}_positions", f"{end}_logits"
    return Target(labels, output, measures.POSITION, weight=0.5, other=f"{end}_position")


_NEXT = Target("labels", "logits", measures.NEXT_TOKEN, ready="shift_labels")
_MASKED = Target("labels", "prediction_logits", measures.THIS_TOKEN)
_FOLLOWS = Target("next_sentence_label", "seq_relationship_logits", measures.CLASS, optional=True)
_IN_ORDER = Target("sentence_order_label", "sop_logits", measures.CLASS, optional=True)
_CHOSEN = Target("mc_labels", "mc_logits", measures.CHOICE, optional=True)

KINDS: dict[str, Kind] = {
    "causal_lm": Kind((_NEXT,)),
    "unshifted_lm": _one(measures.THIS_TOKEN, in_tf=False),
    "masked_lm": _one(measures.THIS_TOKEN),
    "seq2seq_lm": _one(measures.THIS_TOKEN, makes_decoder_inputs=True),
    "restoring_lm": _one(measures.RESTORED_TOKEN, makes_decoder_inputs=True),
    "sequence_classification": _one(measures.of_problem),
    "distribution_classification": _one(measures.of_distribution),
    "token_classification": _one(measures.TOKEN_CLASS),
    "unpadded_token_classification": _one(measures.TOKEN_CLASS, ignores_padding=True, in_tf=False),
    "question_answering": Kind((_answers("start"), _answers("end"))),
    "multiple_choice": _one(measures.CHOICE),
    "next_sentence": Kind(
        (Target("labels", "logits", measures.NEXT_SENTENCE, other="next_sentence_label"),)
    ),
    "pretraining": Kind((_MASKED, _FOLLOWS)),
    "sentence_order_pretraining": Kind((_MASKED, _IN_ORDER)),
    "replaced_tokens": _one(measures.REPLACED_TOKEN, ignores_padding=True, in_tf=False),
    "double_heads": Kind((_NEXT._replace(optional=True), _CHOSEN), in_tf=False),
}
"""`Model.loss_kind` -> what its heads are trained by. Sources: the heads of Transformers 5.23, and
for convention="tf" `hf_compute_loss` of 4.53.3."""


def kind_of(model: Model, convention: str = "torch") -> Kind:
    """Returns what a model is trained by.

    Raises:
        ValueError: a model without a loss of its own, or none in TensorFlow; a convention that
            there is not.
    """
    name, kind = type(model).__name__, KINDS.get(model.loss_kind or "")
    if convention not in ("torch", "tf"):
        raise ValueError(f"convention is {convention!r}; expected 'torch' or 'tf'")
    if kind is None and model.loss_kind is not None:
        raise ValueError(f"{name}.loss_kind is {model.loss_kind!r}; expected one of {[*KINDS]}")
    if kind is None:
        raise ValueError(
            f"{name} has no loss of its own, since it has no head that is trained by labels: take "
            "a class with one, or give a loss of yours"
        )
    if convention == "tf" and not kind.in_tf:
        raise ValueError(f"{name} has no loss in TensorFlow; expected convention='torch'")
    return kind
