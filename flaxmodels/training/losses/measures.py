"""How logits are compared with labels: one value for each item.

A `Measure` aligns labels with logits, tells which of them count, and compares. Shapes: B batch, T
tokens, V classes.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ...config.config import Config
from ...core.deferred import DeferredLogits
from .cross_entropy import cross_entropy

BEYOND = np.iinfo(np.int32).max
"""The position of an answer that is in no token of the input, and does not count."""

Shape = tuple[int, ...]
Logits: TypeAlias = jax.Array | DeferredLogits
"""Those of classes may be deferred."""
Values = tuple[jax.Array, jax.Array]
"""Float32 values, 0 where nothing counts, and bool of the same shape: which count."""


class Terms(NamedTuple):
    """What a loss depends on beside logits and labels; `loss` describes the fields."""

    config: Config
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    ignore_index: int = -100
    convention: str = "torch"

    @property
    def is_tf(self) -> bool:
        """Whether Transformers' TensorFlow classes decide."""
        return self.convention == "tf"


class Measure(NamedTuple):
    """How logits are compared with labels.

    Attributes:
        form: what labels are, for a message: "int [B, T]".
        shape: of the logits -> of labels that are aligned with them.
        aligned: (labels, terms) -> labels at the places of the logits that they are compared with.
        counted: (aligned labels, terms) -> which of them count, bool of their shape.
        values: (logits, aligned labels, terms) -> their `Values`.
        classes: whether labels are classes: integers from 0 to V - 1, or `ignore_index`.
        clamps: whether PyTorch's classes ignore other integers.
    """

    form: str
    shape: Callable[[Shape], Shape]
    aligned: Callable[[jax.Array, Terms], jax.Array]
    counted: Callable[[jax.Array, Terms], jax.Array]
    values: Callable[..., Values]
    classes: bool = True
    clamps: bool = False


# Labels, aligned.


def shifted(labels: jax.Array, terms: Terms) -> jax.Array:
    """Moves labels [..., T] one place to the left: what follows a token is at its place, and
    nothing follows the last. Labels move, since logits are V times as many."""
    end = jnp.full_like(labels[..., :1], terms.ignore_index)
    return jnp.concatenate([labels[..., 1:], end], axis=-1)


def _as_they_are(labels: jax.Array, terms: Terms) -> jax.Array:
    return labels


def _not_padding(labels: jax.Array, terms: Terms) -> jax.Array:
    """Ignores padding among labels, as TensorFlow's classes do."""
    if not terms.is_tf or terms.config.pad_token_id is None:
        return labels
    return jnp.where(labels == terms.config.pad_token_id, terms.ignore_index, labels)


def _not_negative(labels: jax.Array, terms: Terms) -> jax.Array:
    """Ignores all negative labels, as TensorFlow's classes do."""
    return jnp.where(labels < 0, terms.ignore_index, labels) if terms.is_tf else labels


def _of_examples(labels: jax.Array, terms: Terms) -> jax.Array:
    """Returns labels [B] or [B, 1] as [B]."""
    return labels[:, 0] if labels.shape[1:] == (1,) else labels


def _positions(labels: jax.Array, terms: Terms) -> jax.Array:
    """Returns positions as [B]; PyTorch's classes take those below 0 for 0."""
    labels = _of_examples(labels, terms)
    return labels if terms.is_tf else jnp.maximum(labels, 0)


def _where_negative(labels: jax.Array, terms: Terms) -> jax.Array:
    """Makes classes of labels of any dtype, and ignores negative ones."""
    labels = _of_examples(labels, terms).astype(jnp.int32)
    return jnp.where(labels < 0, terms.ignore_index, labels)


# Which of them count.


def _not_ignored(labels: jax.Array, terms: Terms) -> jax.Array:
    return labels != terms.ignore_index


def _all(labels: jax.Array, terms: Terms) -> jax.Array:
    return jnp.ones(labels.shape, bool)


def _all_examples(labels: jax.Array, terms: Terms) -> jax.Array:
    return jnp.ones(labels.shape[:-1], bool)


def _all_for_tf(labels: jax.Array, terms: Terms) -> jax.Array:
    """Counts examples that are ignored too, as TensorFlow's class does: their value is 0."""
    return _all(labels, terms) if terms.is_tf else _not_ignored(labels, terms)


def _within(labels: jax.Array, terms: Terms) -> jax.Array:
    return labels != BEYOND


# Values.


def _cross_entropy(logits: Logits, labels: jax.Array, terms: Terms) -> Values:
    return cross_entropy(
        logits,
        labels,
        label_smoothing=terms.label_smoothing,
        z_loss=terms.z_loss,
        ignore_index=terms.ignore_index,
    )


def _next_sentence(logits: Logits, labels: jax.Array, terms: Terms) -> Values:
    values, _ = _cross_entropy(logits, labels, terms)
    return values, _all_for_tf(labels, terms)


def _position(logits: Logits, labels: jax.Array, terms: Terms) -> Values:
    """Compares logits [B, T] with positions; PyTorch's classes ignore those that are not in T."""
    if not terms.is_tf:
        labels = jnp.where(labels >= logits.shape[-1], terms.ignore_index, labels)
    return _cross_entropy(logits, labels, terms)


def _squared_error(logits: jax.Array, labels: jax.Array, terms: Terms) -> Values:
    error = logits.reshape(labels.shape).astype(jnp.float32) - labels.astype(jnp.float32)
    return jnp.square(error), _all(labels, terms)


def _binary(logits: jax.Array, labels: jax.Array, terms: Terms) -> Values:
    """Compares the logits of yes and no with labels 1 and 0, or probabilities."""
    x, y = logits.astype(jnp.float32), labels.astype(jnp.float32)
    return jnp.maximum(x, 0.0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x))), _all(labels, terms)


def _replaced(logits: jax.Array, labels: jax.Array, terms: Terms) -> Values:
    counted = _not_ignored(labels, terms)
    values, _ = _binary(logits, jnp.where(counted, labels, 0), terms)
    return jnp.where(counted, values, 0.0), counted


def _distribution(logits: jax.Array, labels: jax.Array, terms: Terms) -> Values:
    """Compares logits [B, V] with probabilities of classes [B, V]."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return -jnp.sum(log_p * labels, axis=-1), _all_examples(labels, terms)


THIS_TOKEN = Measure(
    "int [B, T]", lambda shape: shape[:-1], _as_they_are, _not_ignored, _cross_entropy
)
NEXT_TOKEN = THIS_TOKEN._replace(aligned=shifted)
RESTORED_TOKEN = THIS_TOKEN._replace(aligned=_not_padding)
TOKEN_CLASS = THIS_TOKEN._replace(aligned=_not_negative)

CLASS = THIS_TOKEN._replace(form="int [B]", aligned=_of_examples)
CLASS_OR_NONE = CLASS._replace(aligned=_where_negative)
POSITION = CLASS._replace(aligned=_positions, counted=_within, values=_position, clamps=True)
NEXT_SENTENCE = CLASS._replace(counted=_all_for_tf, values=_next_sentence)

REGRESSION = Measure(
    "float [B, labels]", lambda shape: shape, _as_they_are, _all, _squared_error, classes=False
)
SCORE = REGRESSION._replace(form="float [B]", shape=lambda shape: shape[:1], aligned=_of_examples)
CLASSES = REGRESSION._replace(values=_binary)
PROBABILITIES = REGRESSION._replace(counted=_all_examples, values=_distribution)
REPLACED_TOKEN = REGRESSION._replace(form="int [B, T]", counted=_not_ignored, values=_replaced)

_PROBLEMS = {
    "regression": REGRESSION,
    "single_label_classification": CLASS,
    "multi_label_classification": CLASSES,
}
"""`problem_type` of a configuration -> how its labels are compared."""


def of_problem(labels: jax.Array, terms: Terms) -> Measure:
    """Returns how a sequence classifier is trained: as `problem_type` of its configuration says;
    without one, one label is a score, integers are classes, and the rest is several at once.
    TensorFlow's classes know scores and classes alone.

    Raises:
        ValueError: another problem type.
    """
    one = terms.config.num_labels == 1
    if terms.is_tf:
        return SCORE if one else CLASS
    problem = terms.config.extra.get("problem_type")
    if problem is None:
        integers = jnp.issubdtype(labels.dtype, jnp.integer)
        return SCORE if one else CLASS if integers else CLASSES
    if not isinstance(problem, str) or problem not in _PROBLEMS:
        known = ", ".join(_PROBLEMS)
        raise ValueError(f"config.problem_type is {problem!r}; expected one of {known}, or None")
    return SCORE if one and problem == "regression" else _PROBLEMS[problem]


def of_distribution(labels: jax.Array, terms: Terms) -> Measure:
    """Returns how DeBERTa's classifiers are trained: without a `problem_type`, labels [B] are
    classes, of which negative ones are ignored, and [B, labels] their probabilities."""
    problem, one = terms.config.extra.get("problem_type"), terms.config.num_labels == 1
    if terms.is_tf or problem is not None or one:
        return of_problem(labels, terms)
    return CLASS_OR_NONE if labels.ndim == 1 or labels.shape[-1] == 1 else PROBABILITIES


Choice: TypeAlias = Measure | Callable[[jax.Array, Terms], Measure]
"""How labels are compared, or what decides it."""

MEASURES: dict[str, tuple[Choice, ...]] = {
    "causal_lm": (NEXT_TOKEN,),
    "unshifted_lm": (THIS_TOKEN,),
    "masked_lm": (THIS_TOKEN,),
    "seq2seq_lm": (THIS_TOKEN,),
    "restoring_lm": (RESTORED_TOKEN,),
    "sequence_classification": (of_problem,),
    "distribution_classification": (of_distribution,),
    "token_classification": (TOKEN_CLASS,),
    "unpadded_token_classification": (TOKEN_CLASS,),
    "question_answering": (POSITION, POSITION),
    "multiple_choice": (CLASS,),
    "next_sentence": (NEXT_SENTENCE,),
    "pretraining": (THIS_TOKEN, CLASS),
    "sentence_order_pretraining": (THIS_TOKEN, CLASS),
    "replaced_tokens": (REPLACED_TOKEN,),
    "double_heads": (NEXT_TOKEN, CLASS),
}
"""Kind of head -> how the labels of each of its targets are compared."""


def measured(choice: Choice, labels: jax.Array, terms: Terms) -> Measure:
    """Returns how these labels are compared."""
    return choice if isinstance(choice, Measure) else choice(labels, terms)
