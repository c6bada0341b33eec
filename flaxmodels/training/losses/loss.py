"""The loss of a model: of its output and labels."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from ...calls.known_values import known
from ...core.head_kinds import Target
from ...core.model import Model
from ...core.outputs import ModelOutput
from .. import argument_checks
from ..argument_checks import check_model, one_of
from .checks import REDUCTIONS, check_labels, check_names, loss_kind, numeric
from .measures import MEASURES, Logits, Measure, Terms, measured
from .parts import Part, loss_value
from .token_loss import check_terms

Labels: TypeAlias = Mapping[str, ArrayLike]
"""{name: labels}: "labels", "start_positions", ...; `docs/training.md` lists the names."""
Outputs: TypeAlias = ModelOutput | Mapping[str, Logits]
"""What `model.apply` returns, or its fields by their names."""
Values: TypeAlias = Mapping[str, tuple[jax.Array, jax.Array]]
"""{output: (values, which of them count)}."""


class _Compared(NamedTuple):
    """A target of a model, and labels for it, aligned with its logits."""

    target: Target
    measure: Measure
    labels: jax.Array
    given: str


def loss(
    model: Model,
    outputs: Outputs,
    labels: Labels,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
    num_items_in_batch: ArrayLike | Mapping[str, ArrayLike] | None = None,
    reduction: str = "mean",
    convention: str = "torch",
) -> jax.Array:
    """Computes the loss that the heads of Transformers compute, in float32.

    Args:
        model: what made the outputs; `loss_kind` of its class decides.
        outputs: of `model.apply`.
        labels: by their names; see `match_labels`.
        label_smoothing, z_loss, ignore_index: as `cross_entropy` takes them.
        num_items_in_batch: what sums are divided by, in the place of the number of labels that
            count: of a whole batch of which this is a share. {part: number} for a model whose
            parts have items of different kinds.
        reduction: "mean", "sum", or "none": one value for each label, 0 where it is ignored.
        convention: "torch", or "tf" for the loss of Transformers' TensorFlow classes: which labels
            count differs a little, and reduction="none" gives what `hf_compute_loss` returns, [1]
            of language models and token classifiers, [B] of others.

    Returns:
        A float32 scalar, unless `reduction` is "none". In a trace the mean of no labels is 0, and
        a label that is no class makes the loss NaN.

    Raises:
        ValueError: a model without a loss; labels that it does not take, of another shape, or,
            where values are known, that are no class; where none counts, their mean.
        TypeError: labels that are no integers, and are to be classes.
    """
    one_of("reduction", reduction, REDUCTIONS)
    if num_items_in_batch is not None and reduction != "mean":
        raise ValueError(f"num_items_in_batch divides a mean; reduction={reduction!r} has none")
    terms = _terms(model, label_smoothing, z_loss, ignore_index, convention)
    values = _values(model, outputs, labels, terms)
    if reduction == "none":
        return _unreduced(model, values, terms)
    if reduction == "sum":
        return jnp.float32(sum(jnp.sum(value) for value, _ in values.values()))
    parts = {name: _part(*pair) for name, pair in values.items()}
    if num_items_in_batch is not None:
        return loss_value(parts, _divisors(model, values, num_items_in_batch))
    for name, part in parts.items():
        if (count := known(part.count)) is not None and count == 0:
            raise ValueError(
                f"{type(model).__name__}: all labels for {name} are ignored, {ignore_index}, so "
                "that there is nothing to take the mean of; leave such a batch out"
            )
    return loss_value(parts)


def loss_parts(
    model: Model,
    outputs: Outputs,
    labels: Labels,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
    convention: str = "torch",
) -> dict[str, Part]:
    """Computes the terms of `loss`, each as a sum and a count: {output that it is of: part}.

    Totals and counts of microbatches add up to those of the batch. A part of which nothing counts
    is (0, 0). The arguments and errors are those of `loss`.
    """
    terms = _terms(model, label_smoothing, z_loss, ignore_index, convention)
    return {name: _part(*pair) for name, pair in _values(model, outputs, labels, terms).items()}


def counts(
    model: Model, labels: Labels, *, ignore_index: int = -100, convention: str = "torch"
) -> dict[str, jax.Array]:
    """Counts the items of each part of the loss, float32, from labels alone: those that
    `match_labels` returned."""
    terms = _terms(model, 0.0, 0.0, ignore_index, convention)
    return {
        it.target.output: jnp.sum(it.measure.counted(it.labels, terms), dtype=jnp.float32)
        for it in _compared(model, labels, terms)
    }


def targets(
    model: Model,
    outputs: Outputs,
    labels: Labels,
    *,
    ignore_index: int = -100,
    convention: str = "torch",
) -> dict[str, tuple[jax.Array, Logits]]:
    """Matches outputs with labels, as metrics take them: {output: (labels, logits)}. Labels are at
    the places of the logits: those of a causal language model are shifted, and end with
    `ignore_index`."""
    terms = _terms(model, 0.0, 0.0, ignore_index, convention)
    compared = _compared(model, labels, terms)
    return {it.target.output: (it.labels, _logits(model, outputs, it.target)) for it in compared}


def _terms(
    model: Model, label_smoothing: float, z_loss: float, ignore_index: int, convention: str
) -> Terms:
    """Returns the terms of a loss, after their checks."""
    check_model(model, "a loss")
    check_terms(label_smoothing, z_loss, ignore_index)
    return Terms(model.config, label_smoothing, z_loss, ignore_index, convention)


def _values(model: Model, outputs: Outputs, labels: Labels, terms: Terms) -> Values:
    values = {}
    for it in _compared(model, labels, terms):
        logits = _logits(model, outputs, it.target)
        check_labels(type(model).__name__, it.given, it.labels, logits, it.measure, terms)
        value, counted = it.measure.values(logits, it.labels, terms)
        values[it.target.output] = it.target.weight * value, counted
    return values


def _logits(model: Model, outputs: Outputs, target: Target) -> Logits:
    try:
        found: Logits | None = outputs[target.output]
    except (IndexError, KeyError, TypeError, ValueError):
        found = None
    if found is None or not hasattr(found, "shape"):
        raise ValueError(
            f"{type(model).__name__}: outputs is a {type(outputs).__name__} without "
            f"{target.output}; expected what model.apply returned"
        )
    return found


def _compared(model: Model, labels: Labels, terms: Terms) -> list[_Compared]:
    """Aligns the labels that are given."""
    kind, compared = loss_kind(model, terms.convention), []
    check_names(type(model).__name__, kind, labels)
    for target, choice in zip(kind.targets, MEASURES[model.loss_kind or ""], strict=True):
        given = next((name for name in target.names if name in labels), None)
        if given is None:
            continue
        array = numeric(f"{type(model).__name__}: {given}", labels[given])
        if jnp.issubdtype(array.dtype, jnp.integer):
            array = array.astype(jnp.int32)  # `ignore_index` is no unsigned integer
        measure = measured(choice, array, terms)
        if given == target.labels:
            array = measure.aligned(array, terms)
        compared.append(_Compared(target, measure, array, given))
    return compared


def _part(values: jax.Array, counted: jax.Array) -> Part:
    return Part(jnp.sum(values), jnp.sum(counted, dtype=jnp.float32))


def _divisors(
    model: Model,
    values: Values,
    number: ArrayLike | Mapping[str, ArrayLike],
) -> Mapping[str, ArrayLike]:
    """Returns what each part is divided by."""
    if isinstance(number, Mapping):
        if odd := values.keys() ^ number.keys():
            raise ValueError(
                f"{type(model).__name__}: num_items_in_batch is for {sorted(number)}, and the loss "
                f"has the parts {sorted(values)}; {sorted(odd)[0]!r} is not in both"
            )
        return {name: _positive(f"num_items_in_batch[{name!r}]", x) for name, x in number.items()}
    if len({value.shape for value, _ in values.values()}) > 1:
        raise ValueError(
            f"{type(model).__name__}: num_items_in_batch is one number, and the parts of the loss "
            f"have items of different kinds: expected a number for each of {sorted(values)}"
        )
    return dict.fromkeys(values, _positive("num_items_in_batch", number))


def _positive(name: str, count: ArrayLike) -> ArrayLike:
    """Returns what a sum is divided by: one number, above 0 where it is known."""
    if isinstance(count, Tracer) and count.ndim == 0:
        return count
    return argument_checks.number(name, count, exclusive=True)


def _unreduced(model: Model, values: Values, terms: Terms) -> jax.Array:
    """Returns a value for each label, or what `hf_compute_loss` of TensorFlow's classes returns."""
    shapes = {name: value.shape for name, (value, _) in values.items()}
    if terms.is_tf and any(len(shape) > 1 for shape in shapes.values()):
        return loss_value({name: _part(*pair) for name, pair in values.items()}).reshape(1)
    if len(set(shapes.values())) > 1:
        raise ValueError(
            f"{type(model).__name__}: reduction='none' would add up values of shapes {shapes}; "
            "expected 'mean' or 'sum', or labels for one of them"
        )
    first, *rest = (value for value, _ in values.values())
    return sum(rest, first)
