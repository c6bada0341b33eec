"""Kinds of heads, and the labels that train each: `Model.loss_kind` names a row of the table."""

from typing import Literal, NamedTuple

from .model import Model


class Target(NamedTuple):
    """Labels, and the logits that they are compared with.

    Attributes:
        labels: their name in a batch.
        output: the field of the model's output, which names the part of the loss too.
        weight: of the part in the loss.
        optional: the loss may do without it.
        ready: a name for labels that are aligned already, which go before the others.
        other: what Transformers' TensorFlow classes call the labels.
    """

    labels: str = "labels"
    output: str = "logits"
    weight: float = 1.0
    optional: bool = False
    ready: str | None = None
    other: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names that the labels may have, the first before the others."""
        return (self.labels,) if self.ready is None else (self.ready, self.labels)


class Kind(NamedTuple):
    """What a head is trained by.

    Attributes:
        targets: its labels.
        counts: what the numbers of `labels` are: tokens of the vocabulary, or classes; None where
            they are not counted.
        next_tokens: of a language model from left to right, what labels are made of `input_ids`:
            "shifted" by the loss, or "aligned", the token after each.
        masks: whether it is trained by masking.
        decodes: whether labels are a decoder's tokens, with a length of their own, which are its
            input too, shifted to the right.
        packs: whether each token has a label of its own, so that rows may share one.
        ignores_padding: labels of places that `attention_mask` calls padding are ignored.
        in_tf: Transformers' TensorFlow classes of the kind have a loss.
    """

    targets: tuple[Target, ...] = (Target(),)
    counts: Literal["tokens", "classes"] | None = None
    next_tokens: Literal["shifted", "aligned"] | None = None
    masks: bool = False
    decodes: bool = False
    packs: bool = False
    ignores_padding: bool = False
    in_tf: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Names that its labels may have."""
        return tuple(name for target in self.targets for name in target.names)

    @property
    def spellings(self) -> frozenset[str]:
        """All that its labels are called, in TensorFlow too."""
        return frozenset([*self.names, *(t.other for t in self.targets if t.other is not None)])


def _answers(end: str) -> Target:
    return Target(f"{end}_positions", f"{end}_logits", weight=0.5, other=f"{end}_position")


_NEXT = Target(ready="shift_labels")
_MASKED = Target(output="prediction_logits")
_FOLLOWS = Target("next_sentence_label", "seq_relationship_logits", optional=True)
_IN_ORDER = Target("sentence_order_label", "sop_logits", optional=True)
_CHOSEN = Target("mc_labels", "mc_logits", optional=True)
_DECODER = Kind(counts="tokens", decodes=True)
_TOKENS = Kind(counts="classes", packs=True)

KINDS: dict[str, Kind] = {
    "causal_lm": Kind((_NEXT,), "tokens", "shifted", packs=True),
    "unshifted_lm": Kind(counts="tokens", next_tokens="aligned", packs=True, in_tf=False),
    "masked_lm": Kind(counts="tokens", masks=True, packs=True),
    "seq2seq_lm": _DECODER,
    "restoring_lm": _DECODER,
    "sequence_classification": Kind(counts="classes"),
    "distribution_classification": Kind(),
    "token_classification": _TOKENS,
    "unpadded_token_classification": _TOKENS._replace(ignores_padding=True, in_tf=False),
    "question_answering": Kind((_answers("start"), _answers("end"))),
    "multiple_choice": Kind(),
    "next_sentence": Kind((Target(other="next_sentence_label"),)),
    "pretraining": Kind((_MASKED, _FOLLOWS), "tokens", masks=True),
    "sentence_order_pretraining": Kind((_MASKED, _IN_ORDER), "tokens", masks=True),
    "replaced_tokens": Kind(packs=True, ignores_padding=True, in_tf=False),
    "double_heads": Kind((_NEXT._replace(optional=True), _CHOSEN), "tokens", in_tf=False),
}
"""`Model.loss_kind` -> what its heads are trained by; `training.losses.measures` says how labels
are compared. Sources: the heads of Transformers 5.23, and for TensorFlow of 4.53.3."""

LABELS = frozenset(name for kind in KINDS.values() for name in kind.spellings)
"""What labels are called: no model has an input of these names."""


def kind_of(model: Model) -> Kind:
    """Returns the kind of a model's head; of a class with a kind of its own, labels of which
    nothing is known."""
    return KINDS.get(model.loss_kind or "", Kind())


def vocab_size_of(model: Model) -> int | None:
    """Returns how many tokens a model's inputs may have; None if that is not known."""
    return getattr(getattr(model.config, "text", model.config), "vocab_size", None)


def label_count(model: Model) -> int | None:
    """Returns how many labels there are that are whole numbers; None where they are not counted."""
    config, counts = model.config, kind_of(model).counts
    if counts == "tokens":
        return getattr(model, "logit_count", vocab_size_of(model))
    problem = config.extra.get("problem_type")
    if counts != "classes" or config.num_labels < 2 or problem == "regression":
        return None
    return config.num_labels
