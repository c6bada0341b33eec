"""What a step minimises: the model's own loss, or a function of outputs and labels."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ..core.model import Model
from ..core.outputs import ModelOutput
from ..params.errors import warn
from ..params.tree.paths import nearest
from .argument_checks import numbers, one_of
from .losses import Part, counts, loss_parts
from .losses.token_loss import check_terms

Labels: TypeAlias = Mapping[str, jax.Array]
Parts: TypeAlias = dict[str, Part]
LossFunction: TypeAlias = Callable[[ModelOutput, Labels], jax.Array | Mapping[str, Part]]
"""(outputs, labels) -> a scalar, an array of losses, or `{name: Part}`."""
Counter: TypeAlias = Callable[[Labels], Mapping[str, ArrayLike]]
"""labels -> {part: how many items it is over}."""
Loss: TypeAlias = str | LossFunction | tuple[LossFunction, Counter]
"""A name of the model's own, a function, or a function and what counts its items."""
OWN = ("auto", "passthrough", "auto_with_warning")
"""Names of the model's own loss."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss in parts, each a sum and how many items it is over.

    Attributes:
        function: of outputs and labels; None for the model's own loss.
        counter: of a function that returns `Part`s.
        label_smoothing, z_loss: of the model's own loss.
        weights: {part: its factor in the sum}; 1 where it names none.
    """

    model: Model
    function: LossFunction | None
    counter: Counter | None
    label_smoothing: float
    z_loss: float
    weights: tuple[tuple[str, float], ...]

    def counts(self, labels: Labels) -> Mapping[str, ArrayLike] | None:
        """Returns how many items each part of a whole batch is over, from its labels alone; None
        where each microbatch has as many as the others."""
        if self.function is None:
            return counts(self.model, labels)
        return None if self.counter is None else self.counter(labels)

    def parts(self, outputs: ModelOutput, labels: Labels, microbatches: int) -> Parts:
        """Returns the parts of the loss of a microbatch.

        Raises:
            ValueError: a function that returns no numbers, or `Part`s whose counts are not known
                before a batch has gone through in several microbatches.
        """
        if self.function is None:
            smoothing, z_loss = self.label_smoothing, self.z_loss
            return loss_parts(self.model, outputs, labels, label_smoothing=smoothing, z_loss=z_loss)
        value = self.function(outputs, labels)
        if isinstance(value, Mapping):
            if microbatches > 1 and self.counter is None:
                raise ValueError(
                    "loss: with accumulate > 1 the counts of its parts must be known from the "
                    "labels of the whole batch; give loss=(function, counts), where "
                    "counts(labels) -> {name: count}"
                )
            if not value or not all(isinstance(part, Part) for part in value.values()):
                raise ValueError(
                    f"loss: the function returned {dict(value)!r:.80}: expected {{name: "
                    "Part(total, count)}, of one part or more"
                )
            return dict(value)
        dtype = getattr(value, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            kind = type(value).__name__ if dtype is None else f"an array of {dtype}"
            raise ValueError(
                f"loss: the function returned {kind}: expected a floating-point scalar or "
                "array, or {name: Part(total, count)}"
            )
        value = value.astype(jnp.float32)
        return {"loss": Part(value.sum(), jnp.float32(value.size))}

    def value(self, parts: Parts, whole: Mapping[str, ArrayLike] | None, many: int) -> jax.Array:
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
        if whole is not None and (odd := [name for name in parts if name not in whole]):
            raise ValueError(
                f"loss: counts(labels) has {', '.join(whole) or 'nothing'}, and the loss the part "
                f"{odd[0]!r}: expected a count for each part"
            )
        total = jnp.float32(0)
        for name, part in parts.items():
            count = part.count * many if whole is None else whole[name]
            total += factors.get(name, 1.0) * part.total / count
        return total


def objective_of(
    model: Model,
    loss: Loss,
    label_smoothing: float,
    z_loss: float,
    weights: Mapping[str, float] | None,
) -> Objective:
    """Makes the objective that `compile` was given.

    Raises:
        ValueError: a loss that is none, a model without a loss of its own, or options for a
            function, which would not act.
    """
    factors = tuple(numbers("loss_weights", weights, -math.inf).items())
    check_terms(label_smoothing, z_loss)
    if isinstance(loss, str):
        one_of("loss", loss, OWN, ", or a function (outputs, labels) -> scalar")
        if model.loss_kind is None:
            raise ValueError(
                f"{type(model).__name__} has no loss of its own: give loss=function(outputs, "
                "labels), or take a class with a head"
            )
        if loss == "auto_with_warning":
            warn(
                "no loss was given: training minimises the model's own, that of its head; "
                "loss='auto' says so without a warning"
            )
        return Objective(model, None, None, label_smoothing, z_loss, factors)
    if label_smoothing or z_loss:
        name = "label_smoothing" if label_smoothing else "z_loss"
        raise ValueError(f"{name} is of the model's own loss; the loss given is a function")
    pair = loss if isinstance(loss, tuple) else (loss, None)
    if len(pair) != 2 or not all(map(callable, (pair[0], pair[1] or pair[0]))):
        raise ValueError(
            f"loss is {loss!r:.80}: expected one of {', '.join(OWN)}, a function (outputs, labels) "
            "-> scalar, or a pair of it and counts(labels)"
        )
    return Objective(model, *pair, 0.0, 0.0, factors)
