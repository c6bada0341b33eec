"""`compile`: a model, an optimizer and a loss -> pure compiled steps."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from .. import params as fp
from .. import sharding as fs
from ..core.model import Model
from ..params.scalars import flag, whole
from ..params.tree.cast import DtypeLike, parse_dtype
from ..params.tree.masks import Mask
from .argument_checks import check_model, number, numbers
from .compiled_steps import TrainSteps
from .metrics import Metrics, metrics_of
from .objective import Loss, objective_of
from .optimizers.leaf_tests import LeafTest, decay_rule, leaf_test, settled
from .optimizers.schedules import Schedule, as_schedule
from .optimizers.transforms import by_path, named
from .placement import Placement
from .precision import first_scale
from .recipe import Recipe
from .selection import divide, of_adapters

if TYPE_CHECKING:
    import optax


def compile(
    model: Model,
    optimizer: "str | optax.GradientTransformation" = "adamw",
    loss: Loss = "auto",
    metrics: Metrics | None = None,
    *,
    learning_rate: float | Schedule | Mapping[str, object] | None = None,
    weight_decay: float | None = None,
    decay_mask: Mask | str | Iterable[str] = None,
    rate_factors: Mapping[str, float] | None = None,
    optimizer_options: Mapping[str, float | None] | None = None,
    trainable: Mask | str | Iterable[str] = None,
    accumulate: int = 1,
    clip_norm: float | None = None,
    ema: float | None = None,
    param_dtype: DtypeLike | None = jnp.float32,
    compute_dtype: DtypeLike | None = None,
    loss_scale: float | str | None = None,
    remat: object = None,
    seed: int | jax.Array = 0,
    mesh: jax.sharding.Mesh | None = None,
    rules: fs.Rules | str | None = None,
    shard_optimizer: str | None = None,
    loss_weights: Mapping[str, float] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    chunked_loss: bool | int = False,
    weighted_metrics: Metrics | None = None,
    steps_per_execution: int = 1,
    run_eagerly: bool = False,
) -> TrainSteps:
    """Makes the steps of training a model: pure, compiled, on one device or a mesh.

    >>> steps = compile(model, "adamw", learning_rate=1e-4)  # doctest: +SKIP
    >>> state = steps.init(params)  # doctest: +SKIP
    >>> state, metrics = steps.train_step(state, batch)  # doctest: +SKIP

    Args:
        optimizer: a name ("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "lamb",
            "lion", "nadam", "radam", "rmsprop", "sgd"), or any optax transform, which has a rate
            and a decay of its own.
        loss: "auto", the loss of the model's head, as PyTorch's; "passthrough" is the same, and
            "auto_with_warning" says once that it was not given; a function (outputs, labels) ->
            a scalar, an array of losses, whose mean counts, or `{name: Part(total, count)}`; or a
            pair (such a function, labels -> {name: count}), for `Part`s with `accumulate`.
        metrics: beside the loss: names ("accuracy", "top_5_accuracy", "perplexity", "mse", "mae"),
            functions (y_true, y_pred) -> a scalar or a number of each item, or {output: them}.
        learning_rate: a number, a function of the step, or the arguments of `schedule`:
            `{"name": "cosine", "peak": 3e-4, "warmup": 100, "steps": 5000}`; 1e-3 if None.
        weight_decay: decoupled from the gradient; None for the optimizer's own, which is 0.01 of
            "adamw" and 0 of others.
        decay_mask: what decays: a mask, or regular expressions on paths. If None what has two
            dimensions or more in a layer: no biases, no norms.
        rate_factors: {regular expression on the path: factor of the learning rate}; the first that
            matches counts.
        optimizer_options: numbers of an optimizer that is named: `{"b2": 0.95}`.
        trainable: what is trained: None for all, "adapters", regular expressions on paths, or a
            mask. The rest is neither differentiated nor copied.
        accumulate: into how many microbatches a batch is cut, whose gradients are added up; each
            item counts as much as in one batch.
        clip_norm: the largest norm of all gradients together, as PyTorch's `clip_grad_norm_`.
        ema: the decay of a moving average of what is trained; None for no average.
        param_dtype: in which what is trained is kept, whatever was loaded; None keeps that.
        compute_dtype: in which the model computes, "bfloat16" or "float16"; the model's if None.
        loss_scale: a number, or "dynamic"; if None "dynamic" in float16, and else none.
        remat: in the place of the model's.
        seed: of dropout: a number or a `jax.random.key`. Keys are made of it, the step and the
            microbatch; numbers do not depend on the mesh.
        mesh: where the state is, by `rules`, the model's if None; the default device if None.
        shard_optimizer: a mesh axis, such as "data", over which the optimizer's state and the
            average are cut once more (ZeRO's first stage).
        loss_weights: {part: its factor in the sum}; parts are called as their outputs.
        label_smoothing, z_loss: of the model's own loss; see `training.loss`.
        chunked_loss: compute the loss over the vocabulary in chunks of tokens, so that logits are
            never whole; a number says of how many tokens. Metrics that read logits refuse.
        weighted_metrics: as `metrics`, each item weighed by `sample_weight` of the batch.
        steps_per_execution: K updates in one program: batches are [K, B, ...], metrics [K].
        run_eagerly: run operation by operation, to debug.

    Raises:
        ValueError: an unknown name, with the nearest; a mask or pattern that chooses nothing; what
            would not act, such as a learning rate beside a transform.
    """
    check_model(model, "compile")
    accumulate = whole("accumulate", accumulate)
    run_eagerly = flag("run_eagerly", run_eagerly)
    if not isinstance(seed, jax.Array):
        seed = whole("seed", seed, -(2**63), 2**63 - 1)
    steps_per_execution = whole("steps_per_execution", steps_per_execution)
    if ema is not None:
        ema = number("ema", ema, 0, 1, exclusive=True, hint=", such as 0.999")
    if clip_norm is not None:
        clip_norm = number("clip_norm", clip_norm, exclusive=True)
    # to numbers of 8 bits no update can be added
    if param_dtype is not None and (param_dtype := parse_dtype(param_dtype)).itemsize < 2:
        raise ValueError(f"param_dtype is {param_dtype}: expected float32, bfloat16 or float16")
    if param_dtype is not None and jax.dtypes.canonicalize_dtype(param_dtype) != param_dtype:
        raise ValueError(
            "param_dtype float64: JAX makes float32 of it unless jax_enable_x64 is set"
        )
    trainable, decay_mask = settled(trainable), settled(decay_mask)
    objective = objective_of(model, loss, label_smoothing, z_loss, loss_weights)
    model = _computing(model, compute_dtype, remat, chunked_loss)
    is_matrix = decay_rule(model.abstract_params())
    template = None
    if not of_adapters(trainable):
        template = divide(model.abstract_params(), trainable)[0]
    of_name = learning_rate, weight_decay, decay_mask, optimizer_options
    transform, rate = _optimizer(optimizer, *of_name, rate_factors, template, is_matrix)
    plain, perplexity = metrics_of(metrics)
    placement = None if mesh is None else Placement.of(model, mesh, rules, shard_optimizer)
    if placement is None and (rules is not None or shard_optimizer is not None):
        raise ValueError("rules and shard_optimizer are of a mesh; give mesh= as well")
    weighted, _ = metrics_of(weighted_metrics, weighted=True)
    recipe = Recipe(
        model=model,
        optimizer=transform,
        objective=dataclasses.replace(objective, model=model),
        metrics=plain + weighted,
        perplexity=perplexity,
        rate=rate,
        matrices=is_matrix,
        accumulate=accumulate,
        clip_norm=clip_norm,
        ema=ema,
        compute_dtype=compute_dtype,
        spread=None if placement is None else placement.batch,
    )
    return TrainSteps(
        recipe,
        placement,
        trainable=trainable,
        param_dtype=param_dtype,
        first_scale=first_scale(loss_scale, model.dtype),
        seed=seed,
        steps_per_execution=steps_per_execution,
        run_eagerly=run_eagerly,
    )


def _computing(model: Model, dtype: DtypeLike | None, remat: object, chunked: bool | int) -> Model:
    """Returns the model as it computes in a step; raises `ValueError` for a loss in chunks, of a
    model without a vocabulary."""
    if dtype is not None:
        model = model.clone(dtype=parse_dtype(dtype))
    if remat is not None:
        model = model.clone(remat=remat)
    if chunked is False:
        return model
    if chunked is not True:
        chunked = whole("chunked_loss", chunked)
    if model.output_embeddings_path is None:
        raise ValueError(f"chunked_loss: {type(model).__name__} has no head over a vocabulary")
    return model.clone(defer_logits=chunked)


def _optimizer(
    optimizer: "str | optax.GradientTransformation",
    learning_rate: float | Schedule | Mapping[str, object] | None,
    weight_decay: float | None,
    decay_mask: Mask | str | tuple[str, ...],
    optimizer_options: Mapping[str, float | None] | None,
    factors: Mapping[str, float] | None,
    template: fp.Params | None,
    is_matrix: LeafTest,
) -> "tuple[optax.GradientTransformation, Schedule | None]":
    """Returns the transform of a name or of a caller, and the learning rate where it is known.

    Args:
        template: what is trained; None where that is known with the params alone.
    """
    import optax

    factors = numbers("rate_factors", factors)
    for pattern in factors:
        if template is not None:
            leaf_test("rate_factors", pattern, template)
    if not isinstance(optimizer, str):
        if not hasattr(optimizer, "init") or not hasattr(optimizer, "update"):
            raise ValueError(
                f"optimizer is {optimizer!r:.80}: expected a name, such as 'adamw', or an optax "
                "transform"
            )
        given = {
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "decay_mask": decay_mask,
            "optimizer_options": optimizer_options,
        }
        if odd := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"{odd[0]} is of an optimizer that is named; a transform has its own (optax.adamw("
                "learning_rate, weight_decay=..., mask=...))"
            )
        return optax.chain(optimizer, by_path(factors)) if factors else optimizer, None
    rate = as_schedule(1e-3 if learning_rate is None else learning_rate)
    decays = None if decay_mask is None else leaf_test("decay_mask", decay_mask, template)
    transform = named(
        optimizer,
        rate,
        options=optimizer_options,
        weight_decay=weight_decay,
        decays=decays,
        matrices=is_matrix,
        factors=factors,
    )
    return transform, rate
