"""Checks of what callers give: numbers in a range, names of arguments."""

import math
from collections.abc import Iterable, Mapping

import jax
import numpy as np
from jax.core import Tracer

from ..core.model import Model
from ..params.tree.paths import nearest

_LARGEST = float(np.finfo(np.float32).max)


def number(
    name: str,
    value: object,
    least: float = 0.0,
    most: float = math.inf,
    *,
    exclusive: bool = False,
    hint: str = "",
) -> float:
    """Returns a number of float32 from `least` to `most`, as Python's.

    Args:
        exclusive: whether these two themselves are refused, and what float32 rounds to them.
        hint: what to write instead.

    Raises:
        ValueError: something else, such as a text, NaN or a bool.
    """
    if isinstance(value, Tracer):
        raise ValueError(f"{name} is traced; it must be static: a number{hint}")
    if isinstance(value, np.ndarray | np.generic | jax.Array) and np.ndim(value) == 0:
        value = value.item()
    is_bool = isinstance(value, bool)
    if isinstance(value, int | float) and not is_bool and abs(value) <= _LARGEST:
        if least < np.float32(value) < most if exclusive else least <= value <= most:
            return float(value)
    above = f"above {least:g}" if exclusive else f"from {least:g}"
    between = f"between {least:g} and {most:g}" if exclusive else f"from {least:g} to {most:g}"
    expected = (
        between if math.isfinite(most) else above if math.isfinite(least) else "that is finite"
    )
    raise ValueError(f"{name} is {value!r:.80}; expected a number {expected}{hint}")


def numbers(name: str, given: object, least: float = 0.0) -> dict[str, float]:
    """Returns {name: finite number of at least `least`}, of None nothing; raises `ValueError` for
    something else."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} is {given!r:.80}; expected {{name: number}}")
    return {str(key): number(f"{name}[{key!r}]", x, least) for key, x in given.items()}


def one_of(name: str, value: object, known: Iterable[str], more: str = "") -> None:
    """Raises `ValueError` unless a text is known; `more` says what else may be given."""
    names = list(known)
    if not isinstance(value, str) or value not in names:
        near = nearest(value, names) if isinstance(value, str) else ""
        raise ValueError(f"{name} is {value!r:.80}; expected one of {', '.join(names)}{more}{near}")


def check_model(model: object, function: str) -> None:
    """Raises `TypeError` for what is no model, such as its class or its params."""
    if not isinstance(model, Model):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"{function} takes a model, as from_pretrained returns it; got {got}")
