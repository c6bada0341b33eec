"""What data has to know of each kind of head: the table that `Model.loss_kind` names a row of, as
`training/losses/kinds.py` has it for losses. A test holds the labels of both to each other."""

from typing import Literal, NamedTuple

from ..core.model import Model


class Kind(NamedTuple):
    """How the labels of a kind of head are made, and what they may be.

    Attributes:
        labels: columns that its loss takes.
        counts: what the numbers of `labels` are: tokens of the vocabulary, or classes; None where
            they are not counted.
        next_tokens: of a language model from left to right, what labels are made of `input_ids`:
            "shifted" by the loss, or "aligned", the token after each.
        masks: whether it is trained by masking.
        decodes: whether labels are a decoder's tokens, with a length of their own.
        packs: whether each token has a label of its own, so that rows may share one.
    """

    labels: tuple[str, ...] = ("labels",)
    counts: Literal["tokens", "classes"] | None = None
    next_tokens: Literal["shifted", "aligned"] | None = None
    masks: bool = False
    decodes: bool = False
    packs: bool = False


_TOKEN_CLASSES = Kind(counts="classes", packs=True)
_SECONDS = Kind(counts="tokens", decodes=True)

KINDS: dict[str, Kind] = {
    "causal_lm": Kind(("labels", "shift_labels"), "tokens", "shifted", packs=True),
    "double_heads": Kind(("labels", "shift_labels", "mc_labels"), "tokens"),
    "masked_lm": Kind(counts="tokens", masks=True, packs=True),
    "next_sentence": Kind(("labels", "next_sentence_label")),
    "pretraining": Kind(("labels", "next_sentence_label"), "tokens", masks=True),
    "question_answering": Kind(("start_positions", "end_positions")),
    "replaced_tokens": Kind(packs=True),
    "restoring_lm": _SECONDS,
    "seq2seq_lm": _SECONDS,
    "sentence_order_pretraining": Kind(("labels", "sentence_order_label"), "tokens", masks=True),
    "sequence_classification": Kind(counts="classes"),
    "token_classification": _TOKEN_CLASSES,
    "unpadded_token_classification": _TOKEN_CLASSES,
    "unshifted_lm": Kind(counts="tokens", next_tokens="aligned", packs=True),
}
"""Kinds that are not here have labels of no particular numbers."""

_ANY = Kind(tuple(dict.fromkeys(name for kind in KINDS.values() for name in kind.labels)))


def kind_of(model: Model) -> Kind:
    """Returns the kind of a model's head; without one, a kind of all labels that there are."""
    return _ANY if model.loss_kind is None else KINDS.get(model.loss_kind, Kind())
