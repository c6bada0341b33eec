"""What `Checkpoints` is given, checked: folders, the best of what, numbers of steps, metrics."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from ...params.scalars import whole
from ...params.types import PyTree
from .leaves import check_real

if TYPE_CHECKING:
    from etils import epath


def path_of(folder: str | os.PathLike[str]) -> "epath.Path":
    """Returns a folder as what opens it."""
    from etils import epath

    path = os.fspath(folder) if isinstance(folder, os.PathLike) else folder
    if not isinstance(path, str) or not path:
        raise ValueError(f"folder is {folder!r}; expected the name of a folder")
    return epath.Path(path if "://" in path else os.path.abspath(path))


def check_best(best: object) -> None:
    """Raises `ValueError` for what is no (metric, "min" or "max")."""
    match best:
        case None | (str(), "min" | "max"):
            return
    raise ValueError(f'best is {best!r:.80}; expected (metric, "min" or "max")')


def step_of(state: PyTree, step: int | None) -> int:
    """Returns the number of the step that a state is saved as."""
    if step is not None:
        return whole("step", step, 0)
    if not hasattr(state, "step"):
        raise ValueError("the state has no field `step`; give save(..., step=)")
    check_real("step", state.step)
    return whole("the state's step", state.step, 0)


def means_of(metrics: Mapping[str, ArrayLike] | None) -> dict[str, float]:
    """Returns metrics as numbers, those of several steps in one execution as their mean; raises
    `ValueError` for what is no number."""
    if not isinstance(metrics, Mapping | None):
        raise ValueError(f"metrics are a {type(metrics).__name__}; expected {{name: number}}")
    values = {}
    for name, value in (metrics or {}).items():
        array = np.asarray(value)
        if not array.size or array.dtype.kind not in "biufV":  # V: bfloat16
            raise ValueError(f"metric {name!r} is {value!r:.80}; expected a number")
        values[name] = float(array.astype(np.float64).mean())
    return values
