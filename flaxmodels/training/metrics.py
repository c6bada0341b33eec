"""Metrics of a step: by name or as functions of (labels, predictions), summed over a batch."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ..params.tree.paths import nearest
from .losses import Part

MetricFunction: TypeAlias = Callable[[Any, Any], Any]
"""(y_true, y_pred) -> a scalar, or a number of each item."""
Metrics: TypeAlias = str | MetricFunction | Iterable[str | MetricFunction] | Mapping[str, Any]
"""Metrics of all outputs, or {output: metrics}."""
IGNORED = -100


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that is a mean over the items of a batch.

    Attributes:
        function: (y_true, y_pred) -> (numbers of items, which of them count).
        output: the output that it is of; None for each that has labels.
        weighted: whether `sample_weight` of the batch weighs its items.
    """

    name: str
    function: Callable[[Any, Any], tuple[jax.Array, jax.Array]]
    output: str | None = None
    weighted: bool = False

    def parts(self, pairs: Mapping[str, tuple[Any, Any]], weight: Any) -> dict[str, Part]:
        """Returns the sums of a microbatch by the metric's name, with the output's before it where
        there are several.

        Raises:
            ValueError: an output without labels, or no `sample_weight` for a weighted metric.
        """
        if self.output is not None and self.output not in pairs:
            raise ValueError(
                f"metrics: {self.name} is of {self.output!r}{nearest(self.output, pairs)}, which "
                f"has no labels here; those that have are {', '.join(pairs)}"
            )
        if self.weighted and weight is None:
            raise ValueError(f"{self.name}: a weighted metric needs the batch's sample_weight")
        found = {}
        for output, (y_true, y_pred) in pairs.items():
            if self.output in (None, output):
                name = self.name if len(pairs) == 1 else f"{output}_{self.name}"
                values, counted = self.function(y_true, y_pred)
                each = jnp.broadcast_to(counted, values.shape).astype(jnp.float32)
                if self.weighted:
                    rows = jnp.asarray(weight, jnp.float32)
                    each *= rows.reshape(rows.shape + (1,) * (values.ndim - rows.ndim))
                # an item that does not count may be NaN
                total = jnp.sum(jnp.where(each != 0, values.astype(jnp.float32), 0) * each)
                found[name] = Part(total, each.sum())
        return found


def metrics_of(given: Metrics | None, *, weighted: bool = False) -> tuple[tuple[Metric, ...], bool]:
    """Returns (the metrics that `compile` was given, whether "perplexity" is among them, which is
    made of the loss).

    Raises:
        ValueError: an unknown name; with the nearest.
    """
    found, perplexity = [], False
    for output, one in _each(given):
        if isinstance(one, str) and one == "perplexity" and not weighted:
            perplexity = True
        elif isinstance(one, str):
            if one not in NAMED:
                known = [*NAMED, "perplexity"]
                raise ValueError(
                    f"metrics: there is none called {one!r}{nearest(one, known)}; there are "
                    f"{', '.join(known)}, and any function (y_true, y_pred)"
                )
            found.append(Metric(_called(one, weighted), NAMED[one], output, weighted))
        elif callable(one):
            name = _called(getattr(one, "__name__", type(one).__name__), weighted)
            found.append(Metric(name, _Items(one), output, weighted))
        else:
            raise ValueError(f"metrics: {one!r} is no name and no function (y_true, y_pred)")
    return tuple(found), perplexity


@dataclasses.dataclass(frozen=True)
class _Items:
    """A caller's function as one of a metric: what it returns for each item all counts."""

    function: MetricFunction

    def __call__(self, y_true: Any, y_pred: Any) -> tuple[jax.Array, jax.Array]:
        values = jnp.asarray(self.function(y_true, y_pred))
        if not values.ndim:  # a mean already: as heavy as the rows that it is of
            values = jnp.broadcast_to(values, (jnp.shape(y_true)[0],))
        return values, jnp.ones(values.shape, bool)


def accuracy(y_true: Any, y_pred: Any) -> tuple[jax.Array, jax.Array]:
    """Tells of each item whether the class of the largest logit is its label; of logits without an
    axis of classes, as those of several labels at once, whether their sign says so."""
    logits = _array(y_pred, "accuracy")
    if logits.ndim == jnp.ndim(y_true):
        return (logits > 0) == (y_true > 0.5), y_true != IGNORED
    return jnp.argmax(logits, -1) == y_true, y_true != IGNORED


def top_5_accuracy(y_true: Any, y_pred: Any) -> tuple[jax.Array, jax.Array]:
    """Tells of each item whether its label is among the five largest logits."""
    logits = _array(y_pred, "top_5_accuracy")
    _, best = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    return (best == y_true[..., None]).any(-1), y_true != IGNORED


def squared_error(y_true: Any, y_pred: Any) -> tuple[jax.Array, jax.Array]:
    """Returns the squared difference of each number."""
    values = (_like(y_true, y_pred) - y_true) ** 2
    return values, jnp.ones(values.shape, bool)


def absolute_error(y_true: Any, y_pred: Any) -> tuple[jax.Array, jax.Array]:
    """Returns the absolute difference of each number."""
    values = abs(_like(y_true, y_pred) - y_true)
    return values, jnp.ones(values.shape, bool)


NAMED: dict[str, Callable[[Any, Any], tuple[jax.Array, jax.Array]]] = {
    "accuracy": accuracy,
    "acc": accuracy,
    "top_5_accuracy": top_5_accuracy,
    "mean_squared_error": squared_error,
    "mse": squared_error,
    "mean_absolute_error": absolute_error,
    "mae": absolute_error,
}


def _each(given: Any) -> list[tuple[str | None, Any]]:
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [(output, one) for output, some in given.items() for _, one in _each(some)]
    if isinstance(given, str) or callable(given):
        return [(None, given)]
    return [(None, one) for one in given]


def _called(name: str, weighted: bool) -> str:
    return f"weighted_{name}" if weighted else name


def _array(logits: Any, name: str) -> jax.Array:
    if not isinstance(logits, jax.Array):
        raise ValueError(
            f"metrics: {name} reads logits, which chunked_loss does not make; leave one of them out"
        )
    return logits


def _like(y_true: Any, y_pred: Any) -> jax.Array:
    """Returns predictions [B, 1] as labels [B] are."""
    y_pred = jnp.asarray(y_pred, jnp.float32)
    return y_pred[..., 0] if y_pred.ndim == jnp.ndim(y_true) + 1 else y_pred
