"""What may be wrong with labels, told before it is a number."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from ...calls.concrete import known
from .kinds import Kind
from .measures import Measure, Terms

_REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> None:
    """Raises ValueError for a reduction that there is not."""
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; expected one of {', '.join(_REDUCTIONS)}")


def check_names(owner: str, kind: Kind, given: Collection[str]) -> None:
    """Raises ValueError for labels that a head does not take, and for those that it lacks."""
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


def check_labels(
    owner: str, name: str, labels: jax.Array, logits: Any, measure: Measure, terms: Terms
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
