"""Metrics of a step: by name or as functions of (labels, predictions), summed over a batch."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..params.tree.paths import nearest
from .losses import Part
from .losses.measures import Logits

MetricFunction: TypeAlias = Callable[[jax.Array, Any], ArrayLike]
"""(y_true, y_pred) -> a scalar, or a number of each item; y_pred are `Logits`."""
Counted: TypeAlias = Callable[[jax.Array, Logits], tuple[jax.Array, jax.Array]]
"""(y_true, y_pred) -> (numbers of items, which of them count)."""
Some: TypeAlias = str | MetricFunction | Iterable[str | MetricFunction]
Metrics: TypeAlias = Some | Mapping[str, Some]
"""Metrics of all outputs, or {output: metrics}."""
IGNORED = -100
_TAKEN = ("loss", "count", "grad_norm", "finite", "learning_rate", "loss_scale", "perplexity")
"""What a step's own numbers are called."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that is a mean over the items of a batch.

    Attributes:
        output: the output that it is of; None for each that has labels.
        weighted: whether `sample_weight` of the batch weighs its items.
    """

    name: str
    function: Counted
    output: str | None = None
    weighted: bool = False

    def clashes(self, other: "Metric") -> bool:
        """Tells whether two metrics would have one name among the values of a step."""
        of_all = None in (self.output, other.output)
        return self.name == other.name and (of_all or self.output == other.output)

    def parts(
        self, pairs: Mapping[str, tuple[jax.Array, Logits]], weight: jax.Array | None
    ) -> dict[str, Part]:
        """Returns the sums of a microbatch by the metric's name, with the output's before it where
        there are several.

        Args:
            weight: of each row [B]; None if the batch has none.

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
                    each *= _spread(jnp.asarray(weight, jnp.float32), values.shape)
                # an item that does not count may be NaN
                total = jnp.sum(jnp.where(each != 0, values.astype(jnp.float32), 0) * each)
                found[name] = Part(total, each.sum())
        return found


def metrics_of(given: Metrics | None, *, weighted: bool = False) -> tuple[tuple[Metric, ...], bool]:
    """Returns (the metrics that `compile` was given, whether "perplexity" is among them, which is
    made of the loss).

    Raises:
        ValueError: an unknown name, with the nearest; two metrics of one name, of which one would
            be lost, or one that is called as a step's own numbers are.
    """
    what, found = "weighted_metrics" if weighted else "metrics", list[Metric]()
    perplexity, prefix = False, "weighted_" if weighted else ""
    for output, one in _each(given):
        if isinstance(one, str) and one == "perplexity" and not weighted:
            perplexity = True
        elif isinstance(one, str):
            if one not in NAMED:
                known = [*NAMED] if weighted else [*NAMED, "perplexity"]
                near = "" if one == "perplexity" else nearest(one, known)
                raise ValueError(
                    f"{what}: there is none called {one!r}{near}; there are {', '.join(known)}, "
                    "and any function (y_true, y_pred)"
                )
            found.append(Metric(prefix + one, NAMED[one], output, weighted))
        elif callable(one):
            name = prefix + getattr(one, "__name__", type(one).__name__)
            found.append(Metric(name, _Items(one), output, weighted))
        else:
            raise ValueError(f"{what}: {one!r:.80} is no name and no function (y_true, y_pred)")
    for i, metric in enumerate(found):
        if metric.name in _TAKEN or any(metric.clashes(other) for other in found[:i]):
            raise ValueError(
                f"{what}: the name {metric.name!r} is taken; call the function otherwise, by its "
                "__name__"
            )
    return tuple(found), perplexity


@dataclasses.dataclass(frozen=True)
class _Items:
    """A caller's function as one of a metric: what it returns for each item all counts."""

    function: MetricFunction

    def __call__(self, y_true: jax.Array, y_pred: Logits) -> tuple[jax.Array, jax.Array]:
        found = self.function(y_true, y_pred)
        if not isinstance(found, jax.Array | np.ndarray | np.generic | int | float):
            raise ValueError(
                f"metrics: {getattr(self.function, '__name__', self.function)} returned a "
                f"{type(found).__name__}; expected a scalar, or a number of each item"
            )
        values = jnp.asarray(found)
        if not values.ndim:  # a mean already: as heavy as the rows that it is of
            values = jnp.broadcast_to(values, (jnp.shape(y_true)[0],))
        return values, jnp.ones(values.shape, bool)


def accuracy(y_true: jax.Array, y_pred: Logits) -> tuple[jax.Array, jax.Array]:
    """Tells of each item whether the class of the largest logit is its label; of logits without an
    axis of classes, as those of several labels at once, whether their sign says so."""
    logits = _array(y_pred, "accuracy")
    if logits.ndim == jnp.ndim(y_true):
        return (logits > 0) == (y_true > 0.5), y_true != IGNORED
    return jnp.argmax(logits, -1) == y_true, y_true != IGNORED


def top_5_accuracy(y_true: jax.Array, y_pred: Logits) -> tuple[jax.Array, jax.Array]:
    """Tells of each item whether its label is among the five largest logits."""
    logits = _array(y_pred, "top_5_accuracy")
    _, best = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    return (best == y_true[..., None]).any(-1), y_true != IGNORED


def squared_error(y_true: jax.Array, y_pred: Logits) -> tuple[jax.Array, jax.Array]:
    """Returns the squared difference of each number."""
    error, counted = absolute_error(y_true, y_pred)
    return error**2, counted


def absolute_error(y_true: jax.Array, y_pred: Logits) -> tuple[jax.Array, jax.Array]:
    """Returns the absolute difference of each number."""
    y_pred = _array(y_pred, "an error").astype(jnp.float32)
    y_pred = y_pred[..., 0] if y_pred.ndim == jnp.ndim(y_true) + 1 else y_pred  # [B, 1]
    values = abs(y_pred - y_true)
    return values, jnp.ones(values.shape, bool)


NAMED: dict[str, Counted] = {
    "accuracy": accuracy,
    "acc": accuracy,
    "top_5_accuracy": top_5_accuracy,
    "mean_squared_error": squared_error,
    "mse": squared_error,
    "mean_absolute_error": absolute_error,
    "mae": absolute_error,
}


def _each(given: Metrics | None) -> list[tuple[str | None, str | MetricFunction]]:
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [(str(output), one) for output, some in given.items() for _, one in _each(some)]
    if isinstance(given, str) or callable(given) or not isinstance(given, Iterable):
        return [(None, given)]
    return [(None, one) for one in given]


def _spread(weight: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns weights of rows [B], or of what else begins a shape, as ones that are multiplied."""
    if weight.shape != shape[: weight.ndim]:
        raise ValueError(
            f"sample_weight has shape {weight.shape}, and a metric {shape}: expected a weight for "
            f"each row, {shape[:1]}"
        )
    return weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim))


def _array(logits: Logits, name: str) -> jax.Array:
    if not isinstance(logits, jax.Array):
        raise ValueError(
            f"metrics: {name} reads logits, which chunked_loss does not make; leave one of them out"
        )
    return logits
