"""What a step is told: a recipe, and a batch, of which inputs and labels are told apart by it."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import jax
from jax.sharding import NamedSharding

from ..core.arguments import array_arguments
from ..core.head_kinds import LABELS
from ..core.model import Model
from ..params.tree.cast import DtypeLike
from ..params.types import PyTree
from .losses import match_labels
from .metrics import Metric
from .objective import Objective
from .optimizers.leaf_tests import LeafTest
from .optimizers.schedules import Schedule
from .packing import unpacked

if TYPE_CHECKING:
    import optax

Given: TypeAlias = Mapping[str, PyTree] | tuple[PyTree, ...]
"""A batch: {column: array [B, ...]}, or a pair of inputs and labels, or these and weights."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that a step does, as a value.

    Attributes:
        model: as it computes in a step: of the step's dtype and remat.
        perplexity: whether it is among the metrics.
        rate: the learning rate, where it is known.
        matrices: which params are cast to `compute_dtype`.
        accumulate: into how many microbatches a batch is cut.
        spread: how the rows of a batch are sharded; None on one device.
    """

    model: Model
    optimizer: "optax.GradientTransformation"
    objective: Objective
    metrics: tuple[Metric, ...]
    perplexity: bool
    rate: Schedule | None
    matrices: LeafTest
    accumulate: int
    clip_norm: float | None
    ema: float | None
    compute_dtype: DtypeLike | None
    spread: NamedSharding | None


class Batch(NamedTuple):
    """A batch as a step takes it: inputs of the model, labels, weights of its rows for metrics."""

    inputs: dict[str, PyTree]
    labels: dict[str, jax.Array]
    weight: jax.Array | None


def split_batch(recipe: Recipe, batch: Given, *, labelled: bool = True) -> Batch:
    """Tells inputs of the model from labels, and unpacks packed rows, of {column: array} or, as
    Keras has it, of (inputs, labels) or (inputs, labels, weights).

    Labels of a head are matched as `match_labels` does it. A loss that is a function also gets the
    columns that the model does not take.

    Args:
        labelled: whether labels are needed.
    """
    given, *apart = (batch,) if isinstance(batch, Mapping) else batch
    rest, weight = dict(given), apart.pop() if len(apart) > 1 else None
    weight = rest.pop("sample_weight", weight)
    more: dict[str, jax.Array] = {}
    if recipe.objective.function is not None or not labelled:
        known = {*array_arguments(recipe.model), *LABELS, "segment_ids"}
        more = {name: rest.pop(name) for name in [*rest] if name not in known}
    if recipe.model.loss_kind is not None and (apart or LABELS & rest.keys()):
        inputs, labels = match_labels(recipe.model, (rest, *apart))
    elif labelled and recipe.objective.function is None:
        raise ValueError(f"no labels in the batch, which has {', '.join(given)}")
    else:
        inputs, labels = rest, {name: rest.pop(name) for name in LABELS & rest.keys()}
    if labelled and weight is not None:
        if recipe.objective.function is not None:
            more["sample_weight"] = weight
        elif not any(metric.weighted for metric in recipe.metrics):
            raise ValueError(
                "the batch has weights of its rows, and nothing is weighed by sample_weight: give "
                "weighted_metrics, or a loss of your own, which finds it among the labels"
            )
    segments = inputs.pop("segment_ids", None)
    if segments is not None:
        inputs = unpacked(inputs, segments)
    return Batch(inputs, {**labels, **more}, weight)
