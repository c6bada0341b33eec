"""From a batch to what a model is given, and what its output is compared with."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ...core.head_kinds import LABELS, Kind
from ...core.model import Model
from ...params.types import PyTree
from ..argument_checks import check_model
from .checks import check_names, loss_kind, numeric
from .measures import BEYOND, MEASURES, Terms, measured, shifted

Arrays: TypeAlias = Mapping[str, PyTree]
"""Columns of a batch by their names: arrays, and an encoder's outputs."""
Batch: TypeAlias = Arrays | Sequence[PyTree]

_STANDS_FOR_IDS = ("inputs_embeds", "encoder_outputs")


def match_labels(
    model: Model, batch: Batch, *, ignore_index: int = -100, convention: str = "torch"
) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
    """Tells a batch apart into inputs and labels, and makes of each what follows from the other.

    - Labels of an encoder-decoder that come without `decoder_input_ids` are these too, shifted to
      the right.
    - Answers that end after the tokens of the input are told to `counts` as ones that do not count.
    - Labels of padding are ignored, where the head ignores them.
    - With `segment_ids`, the labels of a causal language model are shifted within a segment.

    Nothing is written into the batch, and what is in it goes before what is made.

    Args:
        model: what takes the inputs.
        batch: {name: array}; or, as Keras has it, a pair of inputs and labels: each {name: array},
            or an array where the model has one; labels may be called as the outputs are that they
            are compared with, or be a sequence in the order of these.
        ignore_index: the label of what does not count.
        convention: as `loss` takes it.

    Returns:
        The keywords of the model, and the labels that `loss` takes. Keys that are no labels go to
        the model, which refuses those that it does not know.

    Raises:
        ValueError: no labels, or some that the model does not take; none of its inputs; labels
            beside inputs of another number of examples.
    """
    check_model(model, "match_labels")
    kind, owner = loss_kind(model, convention), type(model).__name__
    inputs, labels = _apart(model, kind, batch)
    check_names(owner, kind, labels)
    terms = Terms(model.config, ignore_index=ignore_index, convention=convention)
    _check_inputs(model, inputs, labels)
    if kind.decodes:
        inputs = _with_decoder_inputs(model, inputs, labels["labels"], terms)
    if kind.ignores_padding and inputs.get("attention_mask") is not None:
        labels["labels"] = _without_padding(owner, labels["labels"], inputs, ignore_index)
    if convention == "torch":
        labels |= _within(kind, labels, _length(model, inputs))
    if "shift_labels" in kind.names and inputs.get("segment_ids") is not None:
        labels = _shifted_in_segments(owner, labels, inputs["segment_ids"], terms)
    return inputs, labels


def _apart(model: Model, kind: Kind, batch: Batch) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
    """Returns inputs and labels, by their names."""
    owner = type(model).__name__
    given, *apart = [batch] if isinstance(batch, Mapping) else _pair(owner, batch)
    given = dict(given) if isinstance(given, Mapping) else {model.main_input_name: given}
    labels = _named(owner, kind, {name: given.pop(name) for name in LABELS & given.keys()})
    for more in apart:
        labels = _named(owner, kind, more) | labels
    return given, {n: _array(owner, n, x) for n, x in labels.items() if x is not None}


def _pair(owner: str, batch: Sequence[PyTree]) -> Sequence[PyTree]:
    """Returns inputs, or inputs and labels."""
    if isinstance(batch, list | tuple) and 0 < len(batch) < 3:
        return batch
    found = f"{len(batch)} things" if isinstance(batch, list | tuple) else type(batch).__name__
    raise ValueError(
        f"{owner}: a batch of {found}; expected a dict of arrays, or a pair of inputs and labels"
    )


def _array(owner: str, name: str, labels: PyTree) -> jax.Array | np.ndarray:
    """Returns labels as an array; one stays what it is."""
    return labels if hasattr(labels, "dtype") else np.asarray(numeric(f"{owner}: {name}", labels))


def _named(owner: str, kind: Kind, labels: object) -> dict[str, PyTree]:
    """Returns labels that came apart from inputs by their names."""
    if isinstance(labels, Mapping):
        renamed = {name: t.labels for t in kind.targets for name in (t.output, t.other)}
        return {renamed.get(str(name), str(name)): value for name, value in labels.items()}
    names = [target.labels for target in kind.targets]
    several = list(labels) if isinstance(labels, tuple | list) else [labels]
    if len(several) > len(names) or (len(names) > 1 and not isinstance(labels, tuple | list)):
        raise ValueError(
            f"{owner}: {len(several)} arrays of labels without names; expected "
            f"{' and '.join(names)}"
        )
    return dict(zip(names, several, strict=False))


def _check_inputs(model: Model, inputs: Arrays, labels: Arrays) -> None:
    """Raises ValueError for a batch without the model's input, and for labels of other examples."""
    owner, ids = type(model).__name__, model.main_input_name
    given = [name for name in (ids, *_STANDS_FOR_IDS) if inputs.get(name) is not None]
    if not given:
        raise ValueError(
            f"{owner}: no {ids} in the batch, which has {', '.join(sorted({*inputs, *labels}))}"
        )
    if given[0] == "encoder_outputs":  # an output, a tuple or an array
        return
    shape = np.shape(inputs[given[0]])
    if len(shape) < 2:
        raise ValueError(f"{owner}: {given[0]} has shape {shape}; expected [B, T, ...]")
    for name, value in labels.items():
        if value.shape[:1] != shape[:1]:
            raise ValueError(
                f"{owner}: {name} has shape {value.shape}, and {given[0]} {shape}; expected as "
                "many examples"
            )


def _with_decoder_inputs(
    model: Model, inputs: dict[str, PyTree], labels: PyTree, terms: Terms
) -> dict[str, PyTree]:
    """Adds the decoder's input, unless it is given."""
    if any(inputs.get(n) is not None for n in ("decoder_input_ids", "decoder_inputs_embeds")):
        return inputs
    ids, (choice,) = jnp.asarray(labels), MEASURES[model.loss_kind or ""]
    ids = measured(choice, ids, terms).aligned(ids, terms)
    ids = jnp.where(ids == terms.ignore_index, -100, ids)
    made: Any = model  # of an encoder-decoder
    return {**inputs, "decoder_input_ids": made.prepare_decoder_input_ids_from_labels(ids)}


def _without_padding(owner: str, labels: jax.Array, inputs: Arrays, ignore_index: int) -> jax.Array:
    """Ignores labels [B, T] where the mask of attention [B, T] is not 1."""
    mask = jnp.asarray(inputs["attention_mask"])
    if mask.shape != labels.shape:
        raise ValueError(
            f"{owner}: attention_mask has shape {mask.shape} and labels {labels.shape}; "
            "expected the same, since labels of padding are ignored"
        )
    return jnp.where(mask == 1, labels, ignore_index)


def _length(model: Model, inputs: Arrays) -> int | None:
    """Returns how many tokens there are logits of; None if that is not known."""
    names = (model.main_input_name, "inputs_embeds")
    return next((np.shape(inputs[n])[1] for n in names if inputs.get(n) is not None), None)


def _within(kind: Kind, labels: Arrays, length: int | None) -> dict[str, jax.Array]:
    """Marks the positions of answers at `length` or after it as ones that do not count."""
    names = [n for n in kind.names if n.endswith("_positions") and length is not None]
    return {name: jnp.where(labels[name] >= length, BEYOND, labels[name]) for name in names}


def _shifted_in_segments(
    owner: str, labels: dict[str, PyTree], segment_ids: jax.Array, terms: Terms
) -> dict[str, PyTree]:
    """Makes `shift_labels` of labels [B, T] in segments [B, T]: 0 is padding, and a segment's first
    token does not follow on that of another."""
    if "labels" not in labels or "shift_labels" in labels:
        return labels
    rest, ids = dict(labels), jnp.asarray(segment_ids)
    given = jnp.asarray(rest.pop("labels"))
    if given.shape != ids.shape:
        raise ValueError(
            f"{owner}: segment_ids has shape {ids.shape} and labels {given.shape}; expected the "
            "same"
        )
    follows = (shifted(ids, terms) == ids) & (ids > 0)
    ready = jnp.where(follows, shifted(given, terms), terms.ignore_index)
    return {**rest, "shift_labels": ready}
