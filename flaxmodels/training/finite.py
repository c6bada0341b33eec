"""A check on the host that a step's loss and gradients were finite."""

from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike

_SAID = ("loss", "grad_norm", "learning_rate")


class NonFiniteError(FloatingPointError):
    """A step whose loss or gradients were not finite.

    Attributes:
        step: its number.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


def check_finite(metrics: Mapping[str, ArrayLike], step: int) -> None:
    """Raises unless the loss and the gradients of a step were finite.

    Such a step changes nothing of its state but `skipped`, so the state at hand is that of the last
    good one: it can be saved, or training goes on with other data. The call waits for the step;
    to keep the device busy give it the metrics of the step before, or call it now and then.

    Args:
        metrics: as `train_step` returns them, with "finite" or "loss": scalars, or [K] of
            `steps_per_execution=K`.
        step: the number of the step, or of the first of K.

    Raises:
        NonFiniteError: with the first such step, and its metrics.
        KeyError: metrics with neither.
    """
    if "finite" not in metrics and "loss" not in metrics:
        raise KeyError(f"expected metrics with 'finite' or 'loss', got {', '.join(metrics)}")
    flags = metrics["finite"] if "finite" in metrics else np.isfinite(np.asarray(metrics["loss"]))
    good = np.atleast_1d(np.asarray(flags)).astype(bool)
    if good.all():
        return
    first = int(np.argmin(good))
    said = [(name, float(np.ravel(metrics[name])[first])) for name in _SAID if name in metrics]
    values = ", ".join(f"{name} {value:g}" for name, value in said)
    raise NonFiniteError(
        f"step {step + first} is not finite: {values}; its state is that of the last good step. "
        "Look at the batch, lower the learning rate, or set clip_norm",
        step + first,
    )
