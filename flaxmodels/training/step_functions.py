"""The steps themselves: pure functions of a recipe, a state and a batch, to be compiled."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .. import params as fp
from ..core.head_kinds import LABELS
from ..core.outputs import ModelOutput
from ..params.types import PyTree
from .accumulate import microbatches, summed
from .losses import Part, targets
from .losses.measures import Logits
from .objective import Labels
from .precision import compute_copy
from .recipe import Batch, Given, Recipe, split_batch
from .selection import join
from .state import TrainState

Values: TypeAlias = dict[str, jax.Array]
"""Metrics: float32 [] each."""


class Where(NamedTuple):
    """Shardings of what a step makes on a mesh: of gradients as they are added up, and of those
    that the optimizer reads; None without a mesh."""

    grads: PyTree = None
    updates: PyTree = None


class Sums(NamedTuple):
    """What is added up over microbatches: the loss, its parts, and those of metrics."""

    loss: jax.Array
    parts: dict[str, Part]
    metrics: dict[str, Part]


def train_step(
    recipe: Recipe, state: TrainState, batch: Given, where: Where
) -> tuple[TrainState, Values]:
    """Makes one update -> (state, metrics).

    Gradients are those of the loss of the whole batch, whatever `accumulate` is: each microbatch's
    sums are divided by the counts of all. If the loss or a gradient is not finite, the state stays
    as it was but for `skipped`, and the scale of the loss.
    """
    whole = split_batch(recipe, batch)
    variables, grads, sums = _gradients(recipe, state, whole, where)
    scale = None if state.loss_scale is None else state.loss_scale.scale
    if scale is not None:
        grads = jax.tree.map(lambda g: g / scale, grads)
    norm = global_norm(grads)
    finite = jnp.isfinite(sums.loss) & jnp.isfinite(norm)

    def updated(old: dict[str, PyTree], grads: PyTree) -> dict[str, PyTree]:
        grads = clipped(grads, norm, recipe.clip_norm)
        grads = _constrained(grads, where.updates)
        new = _updated(recipe, state.replace(**old), grads)
        new = _changed(new.replace(variables=variables, step=old["step"] + 1))
        return jax.tree.map(lambda a, b: a.astype(b.dtype), new, old)

    # A branch, not a choice between two states: XLA would copy the moments for that.
    kept = jax.lax.cond(finite, updated, lambda old, _: old, _changed(state), grads)
    values = {
        **_values(recipe, sums),
        "grad_norm": norm,
        "finite": finite,
        **({} if recipe.rate is None else {"learning_rate": jnp.float32(recipe.rate(state.step))}),
        **({} if scale is None else {"loss_scale": scale}),
    }
    return state.replace(
        **kept,
        skipped=state.skipped + (1 - finite.astype(jnp.int32)),
        loss_scale=None if state.loss_scale is None else state.loss_scale.after(finite),
    ), values


def test_step(recipe: Recipe, state: TrainState, batch: Given) -> Values:
    """Computes loss and metrics of a batch, without dropout; the state is not touched."""
    whole = split_batch(recipe, batch)
    sums, _ = _forward(recipe, _joined(recipe, state, state.trained), state.variables, whole)
    return _values(recipe, sums)


def predict_step(recipe: Recipe, state: TrainState, batch: Given) -> ModelOutput:
    """Computes the outputs of the model for the inputs in a batch, without dropout."""
    inputs = split_batch(recipe, batch, labelled=False).inputs
    params = _joined(recipe, state, state.trained)
    model = recipe.model.clone(defer_logits=False)
    return model.apply({"params": params, **state.variables}, **inputs)


def train_steps(
    recipe: Recipe, state: TrainState, batches: Given, where: Where
) -> tuple[TrainState, Values]:
    """Makes an update for each of K batches [K, B, ...] -> (state, metrics [K])."""
    return jax.lax.scan(lambda s, batch: train_step(recipe, s, batch, where), state, batches)


def _gradients(
    recipe: Recipe, state: TrainState, batch: Batch, where: Where
) -> tuple[PyTree, PyTree, Sums]:
    """Returns the variables after a batch, float32 gradients of what is trained, and sums."""
    many = recipe.accumulate
    counts = recipe.objective.counts(batch.labels)
    key = jax.random.fold_in(state.key, state.step)

    def of(
        trained: fp.Params, variables: PyTree, part: Batch, number: jax.Array | int
    ) -> tuple[jax.Array, tuple[Sums, PyTree]]:
        params = _joined(recipe, state, trained, where.grads)
        rngs = {"dropout": jax.random.fold_in(key, number)}
        sums, after = _forward(recipe, params, variables, part, counts=counts, rngs=rngs)
        scale = 1.0 if state.loss_scale is None else state.loss_scale.scale
        return sums.loss * scale, (sums, after)

    def step(variables: PyTree, part: tuple[Batch, jax.Array | int]) -> tuple[PyTree, PyTree, Sums]:
        gradient = jax.grad(of, has_aux=True)
        grads, (sums, after) = gradient(state.trained, variables, *part)
        grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
        return after, _constrained(grads, where.grads), sums

    if many == 1:
        return step(state.variables, (batch, 0))
    parts = microbatches(batch, many, recipe.spread), jnp.arange(many)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), state.trained)
    return summed(step, parts, state.variables, _constrained(zeros, where.grads))


def _forward(
    recipe: Recipe,
    params: fp.Params,
    variables: Mapping[str, PyTree],
    batch: Batch,
    *,
    counts: Mapping[str, ArrayLike] | None = None,
    rngs: Mapping[str, jax.Array] | None = None,
) -> tuple[Sums, PyTree]:
    """Runs the model -> (sums, the variables after it); with `rngs` as in training."""
    model, objective = recipe.model, recipe.objective
    training = {} if rngs is None else {"deterministic": False, "rngs": rngs}
    if variables and rngs is not None:
        training["mutable"] = list(variables)
    outputs = model.apply({"params": params, **variables}, **batch.inputs, **training)
    outputs, after = outputs if "mutable" in training else (outputs, variables)
    many = 1 if rngs is None else recipe.accumulate
    parts = objective.parts(outputs, batch.labels, many)
    loss = objective.value(parts, counts, many)
    found: dict[str, Part] = {}
    if recipe.metrics:
        pairs = _pairs(recipe, outputs, batch.labels)
        for metric in recipe.metrics:
            found |= metric.parts(pairs, batch.weight)
    return Sums(loss, parts, found), after


def _pairs(
    recipe: Recipe, outputs: ModelOutput, labels: Labels
) -> dict[str, tuple[jax.Array, Logits]]:
    """Returns {output: (labels, predictions)}, for metrics."""
    if recipe.objective.function is None:
        return targets(recipe.model, outputs, labels)
    named = {name: (labels[name], outputs[name]) for name in labels if name in outputs}
    if "labels" in labels and "logits" in outputs and recipe.model.loss_kind is not None:
        own = {name: x for name, x in labels.items() if name in LABELS}
        named |= targets(recipe.model, outputs, own)
    return named


def _joined(
    recipe: Recipe, state: TrainState, trained: fp.Params, shardings: PyTree = None
) -> fp.Params:
    """Returns the params to compute with.

    Args:
        shardings: of what is trained, and of its copies of 16 bits: these are what a mesh gathers.
    """
    if recipe.compute_dtype is not None:
        trained = compute_copy(trained, recipe.compute_dtype, recipe.matrices)
        trained = _constrained(trained, shardings)
    return join(trained, state.frozen, adapters=state.adapters)


def _updated(recipe: Recipe, state: TrainState, grads: PyTree) -> TrainState:
    """Returns the state after the optimizer's update, and the average after it."""
    import optax

    updates, opt_state = recipe.optimizer.update(grads, state.opt_state, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    decay, ema = recipe.ema, state.ema
    if decay is not None and ema is not None:
        ema = jax.tree.map(lambda mean, x: decay * mean + (1 - decay) * x, ema, trained)
    return state.replace(trained=trained, opt_state=opt_state, ema=ema)


def _changed(state: TrainState) -> dict[str, PyTree]:
    """Returns what of a state an update changes."""
    return {n: getattr(state, n) for n in ("step", "trained", "opt_state", "ema", "variables")}


def _constrained(grads: PyTree, shardings: PyTree) -> PyTree:
    """Returns gradients in these shardings, if there are any."""
    return grads if shardings is None else jax.lax.with_sharding_constraint(grads, shardings)


def global_norm(grads: PyTree) -> jax.Array:
    """Returns the norm of all gradients as one vector: of a sharded one, of its shards."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads)))


def clipped(grads: PyTree, norm: jax.Array, limit: float | None) -> PyTree:
    """Returns gradients whose norm is at most `limit`, as PyTorch's `clip_grad_norm_` makes
    them."""
    if limit is None:
        return grads
    factor = jnp.minimum(1.0, limit / (norm + 1e-6))
    return jax.tree.map(lambda g: g * factor, grads)


def _values(recipe: Recipe, sums: Sums) -> Values:
    """Returns the metrics of sums: each the mean of its items."""
    first, *others = sums.parts.items()
    values = {"loss": sums.loss, "count": first[1].count}
    for name, part in (first, *others) if others else ():
        values |= {f"loss/{name}": part.total / part.count, f"count/{name}": part.count}
    if recipe.perplexity:
        values["perplexity"] = jnp.exp(sums.loss)
    return values | {name: part.total / part.count for name, part in sums.metrics.items()}
