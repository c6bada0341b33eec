"""What a step minimises: the model's own loss, or a function of outputs and labels."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ..core.model import Model
from ..params.tree.paths import nearest
from .losses import Part, counts, loss_parts

Parts: TypeAlias = dict[str, Part]
LossFunction: TypeAlias = Callable[[Any, Mapping[str, Any]], Any]
"""(outputs, labels) -> a scalar, an array of losses, or `{name: Part}`."""
OWN = ("auto", "passthrough", "auto_with_warning")
"""Names of the model's own loss."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss in parts, each a sum and how many items it is over.

    Attributes:
        function: of outputs and labels; None for the model's own loss.
        counter: labels -> {name: how many items}, of a function that returns `Part`s.
        options: keywords of the model's own loss.
        weights: {part: its factor in the sum}; 1 where it names none.
    """

    model: Model
    function: LossFunction | None
    counter: Callable[[Mapping[str, Any]], dict[str, jax.Array]] | None
    options: tuple[tuple[str, Any], ...]
    weights: tuple[tuple[str, float], ...]

    def counts(self, labels: Mapping[str, Any]) -> dict[str, jax.Array] | None:
        """Returns how many items each part of a whole batch is over, from its labels alone; None
        where each microbatch has as many as the others."""
        if self.function is None:
            return counts(self.model, labels)
        return None if self.counter is None else self.counter(labels)

    def parts(self, outputs: Any, labels: Mapping[str, Any], microbatches: int) -> Parts:
        """Returns the parts of the loss of a microbatch.

        Raises:
            ValueError: a function that returns no numbers, or `Part`s whose counts are not known
                before a batch has gone through in several microbatches.
        """
        if self.function is None:
            return loss_parts(self.model, outputs, labels, **dict(self.options))
        value = self.function(outputs, labels)
        if isinstance(value, Mapping):
            if microbatches > 1 and self.counter is None:
                raise ValueError(
                    "loss: with accumulate > 1 the counts of its parts must be known from the "
                    "labels of the whole batch; give loss=(function, counts), where "
                    "counts(labels) -> {name: count}"
                )
            return dict(value)
        if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                f"loss: the function returned {type(value).__name__}: expected a floating-point "
                "scalar or array, or {name: Part(total, count)}"
            )
        value = value.astype(jnp.float32)
        return {"loss": Part(value.sum(), jnp.float32(value.size))}

    def value(self, parts: Parts, whole: Mapping[str, jax.Array] | None, many: int) -> jax.Array:
        """Returns what a microbatch adds to the loss of the whole batch.

        Args:
            whole: the counts of the whole batch; None for `many` times the microbatch's.
        """
        factors = dict(self.weights)
        if odd := [name for name in factors if name not in parts]:
            raise ValueError(
                f"loss_weights: the loss has no part {odd[0]!r}{nearest(odd[0], parts)}; its parts "
                f"are {', '.join(parts)}"
            )
        total = jnp.float32(0)
        for name, part in parts.items():
            count = part.count * many if whole is None else whole[name]
            total += factors.get(name, 1.0) * part.total / count
        return total


def objective_of(
    model: Model,
    loss: Any,
    options: Mapping[str, Any],
    weights: Mapping[str, float] | None,
) -> Objective:
    """Makes the objective that `compile` was given.

    Raises:
        ValueError: a loss that is none, a model without a loss of its own, or options for a
            function, which would not act.
    """
    factors = tuple((weights or {}).items())
    if isinstance(loss, str):
        if loss not in OWN:
            raise ValueError(
                f"loss={loss!r}{nearest(loss, OWN)}: expected one of {', '.join(OWN)}, or a "
                "function (outputs, labels) -> scalar"
            )
        if model.loss_kind is None:
            raise ValueError(
                f"{type(model).__name__} has no loss of its own: give loss=function(outputs, "
                "labels), or take a class with a head"
            )
        if loss == "auto_with_warning":
            warnings.warn(
                "no loss was given: training minimises the model's own, that of its head; "
                "loss='auto' says so without a warning",
                stacklevel=3,
            )
        return Objective(model, None, None, tuple(options.items()), factors)
    if set_ := [name for name, value in options.items() if value]:
        raise ValueError(f"{set_[0]} is of the model's own loss; the loss given is a function")
    function, counter = _pair(loss)
    if not all(map(callable, (function, counter or function))):
        raise ValueError(
            f"loss is {loss!r:.80}: expected one of {', '.join(OWN)}, a function (outputs, labels) "
            "-> scalar, or a pair of it and counts(labels)"
        )
    return Objective(model, function, counter, (), factors)


def _pair(loss: Any) -> tuple[Any, Any]:
    """Returns (the function, what counts its items or None)."""
    return loss if isinstance(loss, tuple) and len(loss) == 2 else (loss, None)
