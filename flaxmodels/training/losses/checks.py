"""What may be wrong with labels, told before it is a number."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ...calls.known_values import known
from ...core.head_kinds import KINDS, Kind
from ...core.model import Model
from ..argument_checks import one_of
from .measures import Logits, Measure, Terms

REDUCTIONS = ("mean", "sum", "none")


def loss_kind(model: Model, convention: str) -> Kind:
    """Returns what a model is trained by.

    Raises:
        ValueError: a model without a loss of its own, or none in TensorFlow; a convention that
            there is not.
    """
    name, kind = type(model).__name__, KINDS.get(model.loss_kind or "")
    one_of("convention", convention, ("torch", "tf"))
    if model.loss_kind is None:
        raise ValueError(
            f"{name} has no loss of its own, since it has no head that is trained by labels: take "
            "a class with one, or give a loss of yours"
        )
    if kind is None:
        raise ValueError(f"{name}.loss_kind is {model.loss_kind!r}; expected one of {[*KINDS]}")
    if convention == "tf" and not kind.in_tf:
        raise ValueError(f"{name} has no loss in TensorFlow; expected convention='torch'")
    return kind


def check_names(owner: str, kind: Kind, given: Mapping[str, object]) -> None:
    """Raises ValueError for labels that a head does not take, and for those that it lacks."""
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{owner}: labels are a {type(given).__name__}; expected them by their names, "
            f"{{{kind.names[0]!r}: array}}"
        )
    takes = "it takes " + " and ".join(" or ".join(target.names[::-1]) for target in kind.targets)
    if odd := sorted(set(given) - set(kind.names)):
        raise ValueError(f"{owner} takes no labels called {odd[0]!r}: {takes}")
    lacking = [
        target.labels
        for target in kind.targets
        if not target.optional and set(given).isdisjoint(target.names)
    ]
    if lacking or not given:
        raise ValueError(f"{owner}: no {(lacking or kind.names)[0]} in the batch: {takes}")


def numeric(name: str, labels: object) -> jax.Array:
    """Returns labels as an array.

    Raises:
        TypeError: None, texts, rows of different lengths, and what else are no numbers.
    """
    try:
        array = labels if isinstance(labels, jax.Array) else np.asarray(labels)
        is_numeric = jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool
    except ValueError:
        array, is_numeric = None, False
    if array is None or not is_numeric:
        raise TypeError(f"{name} is {labels!r:.80}; expected an array of numbers")
    return jnp.asarray(array)


def check_labels(
    owner: str,
    name: str,
    labels: jax.Array,
    logits: Logits,
    measure: Measure,
    terms: Terms,
) -> None:
    """Refuses labels that cannot be compared with logits.

    Raises:
        TypeError: not integers, where they are classes.
        ValueError: of another shape or, where values are known, no class; smoothing of what is no
            class.
    """
    if labels.shape != (expected := measure.shape(logits.shape)):
        raise ValueError(
            f"{owner}: {name} has shape {labels.shape} where logits of shape {logits.shape} are "
            f"compared with {expected}; expected {measure.form}"
        )
    if not measure.classes:
        if terms.label_smoothing or terms.z_loss:
            raise ValueError(
                f"{owner}: label_smoothing and z_loss are for classes, and {name} are compared as "
                f"{measure.form}, which are none; leave them out"
            )
        return
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"{owner}: {name} is {labels.dtype}; expected classes, {measure.form}")
    values, size = known(labels), logits.shape[-1]
    if values is None:
        return
    odd = values[((values < 0) | (values >= size)) & (values != terms.ignore_index)]
    if odd.size and not (measure.clamps and not terms.is_tf):
        raise ValueError(
            f"{owner}: {name} has {odd.flat[0]}; expected classes from 0 to {size - 1}, or "
            f"{terms.ignore_index} for what does not count"
        )
