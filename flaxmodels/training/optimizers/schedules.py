"""Learning rates as functions of the step."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from ...params.scalars import whole
from ..argument_checks import number, one_of

Schedule: TypeAlias = Callable[[ArrayLike], ArrayLike]
"""step, from 0 -> learning rate."""
SCHEDULES = ("constant", "linear", "cosine", "inverse_sqrt")


def schedule(
    name: str, peak: float, *, steps: int | None = None, warmup: int = 0, end: float = 0.0
) -> Schedule:
    """Returns a learning rate as a function of the step, from 0.

    Args:
        name: "constant", "linear" (down to `end`), "cosine" (down to `end` along half a period;
            Loshchilov & Hutter 2017), "inverse_sqrt" (peak * sqrt(w / (w + step - warmup)) with
            w = max(warmup, 1)).
        peak: the rate at the end of the warmup.
        steps: of the whole run, with the warmup; "linear" and "cosine" need it.
        warmup: steps in which the rate rises in a line from 0.
        end: the rate after `steps`, of "linear" and "cosine".

    Raises:
        ValueError: an unknown name, what is no number, an `end` that would not be reached, or
            numbers of steps that leave nothing after the warmup.
    """
    import optax

    one_of("schedule", name, SCHEDULES, ", or any function of the step")
    peak, end, warmup = number("peak", peak), number("end", end), whole("warmup", warmup, 0)
    left = None if steps is None else whole("steps", steps) - warmup
    if end and name in ("constant", "inverse_sqrt"):
        raise ValueError(f"schedule {name!r} has no end, and end is {end}; leave it out")
    if name in ("linear", "cosine") and (left is None or left < 1):
        raise ValueError(
            f"schedule {name!r}: steps={steps} with warmup={warmup}; give the steps of the whole "
            "run, more than those of the warmup"
        )
    shapes: dict[str, Schedule] = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, end, left or 1),
        "cosine": optax.cosine_decay_schedule(peak, max(left or 1, 1), end / peak if peak else 0),
        "inverse_sqrt": lambda step: peak * (max(warmup, 1) / (max(warmup, 1) + step)) ** 0.5,
    }
    if not warmup:
        return shapes[name]
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), shapes[name]], [warmup])


def as_schedule(rate: float | Schedule | Mapping[str, object]) -> Schedule:
    """Returns a learning rate as a function of the step: of a number, of a function, or of the
    arguments of `schedule`.

    Raises:
        ValueError: arguments that `schedule` does not take.
    """
    if isinstance(rate, Mapping):
        try:
            bound = inspect.signature(schedule).bind(**rate)
        except TypeError as error:
            raise ValueError(
                f"learning_rate={dict(rate)}: {error}; expected name, peak, steps, warmup, end"
            ) from None
        return schedule(*bound.args, **bound.kwargs)
    if callable(rate):
        return functools.partial(_one_number, rate)
    value = number(
        "learning_rate", rate, hint=', a function of the step, or {"name": "cosine", ...}'
    )
    return lambda _: value


def _one_number(rate: Schedule, step: ArrayLike) -> ArrayLike:
    """Returns the rate of a step; raises `ValueError` if the function returned something else."""
    value = rate(step)
    if not isinstance(value, jax.Array | np.ndarray | np.generic | float | int) or np.ndim(value):
        raise ValueError(f"learning_rate: the function returned {value!r:.80}; expected a number")
    return value
