"""Optimizers and schedules by name, as optax transforms; decay and rates by path."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.tree_util import KeyPath, tree_map_with_path
from jax.typing import ArrayLike

from .. import params as fp
from ..params.tree.masks import Mask
from ..params.tree.paths import compiled, matches, nearest, path_of
from ..params.types import Leaf, PyTree
from .checked import count, number, one_of

if TYPE_CHECKING:
    import optax

Schedule: TypeAlias = Callable[[ArrayLike], ArrayLike]
"""step, from 0 -> learning rate."""
LeafTest: TypeAlias = Callable[[str, Leaf], bool]
"""(path, leaf) -> whether it is one of those."""


class Rule(NamedTuple):
    """How an optimizer that has a name turns gradients into directions.

    Attributes:
        before: keywords -> the transform before weight decay.
        options: the defaults of those keywords.
        weight_decay: the default.
        after: the transform between weight decay and the learning rate, if there is one.
    """

    before: Callable[..., "optax.GradientTransformation"]
    options: Mapping[str, float | None]
    weight_decay: float = 0.0
    after: Callable[[], "optax.GradientTransformation"] | None = None


@functools.cache
def optimizers() -> dict[str, Rule]:
    """Returns the optimizers that have names.

    Their numbers are PyTorch's for "adam", "adamw" (Loshchilov & Hutter 2019), "nadam", "radam",
    "adamax" and "sgd"; Keras's for "rmsprop", "adagrad" and "adadelta"; the papers' for
    "adafactor" (Shazeer & Stern 2018), "lion" (Chen et al. 2023) and "lamb" (You et al. 2020).
    """
    import optax

    adam = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
    return {
        "adadelta": Rule(optax.scale_by_adadelta, {"rho": 0.95, "eps": 1e-7}),
        "adafactor": Rule(
            _adafactor,
            {
                "decay_rate": 0.8,
                "clipping_threshold": 1.0,
                "multiply_by_parameter_scale": True,
                "min_dim_size_to_factor": 128,
                "eps": 1e-30,
            },
        ),
        "adagrad": Rule(optax.scale_by_rss, {"initial_accumulator_value": 0.1, "eps": 1e-7}),
        "adam": Rule(optax.scale_by_adam, adam),
        "adamax": Rule(optax.scale_by_adamax, adam),
        "adamw": Rule(optax.scale_by_adam, adam, weight_decay=0.01),
        "lamb": Rule(optax.scale_by_adam, adam | {"eps": 1e-6}, after=optax.scale_by_trust_ratio),
        "lion": Rule(optax.scale_by_lion, {"b1": 0.9, "b2": 0.99}),
        "nadam": Rule(functools.partial(optax.scale_by_adam, nesterov=True), adam),
        "radam": Rule(optax.scale_by_radam, adam),
        "rmsprop": Rule(optax.scale_by_rms, {"decay": 0.9, "eps": 1e-7}),
        "sgd": Rule(_momentum, {"momentum": 0.0, "nesterov": False}),
    }


def named(
    name: str,
    rate: Schedule,
    *,
    options: Mapping[str, float | None] | None,
    weight_decay: float | None,
    decays: LeafTest | None,
    matrices: LeafTest,
    factors: Mapping[str, float],
) -> "optax.GradientTransformation":
    """Makes the optimizer of a name: its direction, decoupled weight decay, factors by path, and
    minus the learning rate.

    Args:
        options: keywords of the optimizer, in the place of its defaults.
        weight_decay: None for the optimizer's own.
        decays: which leaves decay; None for `matrices`.
        factors: as `by_path` takes them.

    Raises:
        ValueError: an unknown name or option, with the nearest; an option that is no number; a
            mask for a decay of 0.
    """
    import optax

    known = optimizers()
    if name not in known:
        raise ValueError(
            f"optimizer: there is none called {name!r}{nearest(name.lower(), known)}; there are "
            f"{', '.join(known)}, and any optax transform"
        )
    rule = known[name]
    steps = [rule.before(**{**rule.options, **_checked_options(name, rule, options)})]
    if weight_decay is None and decays is not None and not rule.weight_decay:
        raise ValueError(f"decay_mask: no weight decays by {name}; give weight_decay= as well")
    decay = rule.weight_decay if weight_decay is None else number("weight_decay", weight_decay)
    decays = matrices if decays is None else decays
    if decay:
        steps.append(optax.add_decayed_weights(decay, functools.partial(_mask, decays)))
    if rule.after is not None:
        steps.append(rule.after())
    if factors:
        steps.append(by_path(factors))
    return optax.chain(*steps, optax.scale_by_learning_rate(rate))


_FRACTIONS = ("b1", "b2", "rho", "decay")
"""Options that are decays of averages, below 1."""


def _checked_options(
    name: str, rule: Rule, given: Mapping[str, float | None] | None
) -> dict[str, float | None]:
    """Returns the options that a caller gives, if they are of the kinds of the defaults."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"optimizer_options is {given!r:.80}; expected {{name: number}}")
    for option, value in given.items():
        if option not in rule.options:
            raise ValueError(
                f"optimizer_options: {name} takes {', '.join(rule.options)}; got {option!r}"
                f"{nearest(str(option), rule.options)}"
            )
        what, default = f"optimizer_options[{option!r}]", rule.options[option]
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise ValueError(f"{what} is {value!r:.80}; expected True or False")
        elif isinstance(default, int):
            count(what, value)
        elif value is not None or option != "clipping_threshold":
            value = number(what, value)
            if option in _FRACTIONS and value >= 1:
                raise ValueError(f"{what} is {value}; expected a decay below 1")
    return dict(given)


def by_path(factors: Mapping[str, float]) -> "optax.GradientTransformation":
    """Makes the transform that multiplies the updates of leaves by factors.

    Args:
        factors: {regular expression on the path: factor}; the first that matches counts, and 1
            where none does.
    """
    import optax

    def update(
        updates: PyTree, state: "optax.OptState", params: PyTree = None
    ) -> "tuple[PyTree, optax.OptState]":
        def one(key_path: KeyPath, x: jax.Array) -> jax.Array:
            path = path_of(key_path)
            return x * next((f for pattern, f in factors.items() if matches(pattern, path)), 1.0)

        return tree_map_with_path(one, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


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
    peak, end, warmup = number("peak", peak), number("end", end), count("warmup", warmup, 0)
    left = None if steps is None else count("steps", steps) - warmup
    if end and name in ("constant", "inverse_sqrt"):
        raise ValueError(f"schedule {name!r} has no end, and end is {end}; leave it out")
    if name in ("linear", "cosine") and (left is None or left < 1):
        raise ValueError(
            f"schedule {name!r}: steps={steps} with warmup={warmup}; give the steps of the whole "
            "run, more than those of the warmup"
        )
    shapes: dict[str, Callable[[], Schedule]] = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, end, left or 1),
        "cosine": lambda: optax.cosine_decay_schedule(peak, left or 1, end / peak if peak else 0),
        "inverse_sqrt": lambda: (
            lambda step: peak * (max(warmup, 1) / (max(warmup, 1) + step)) ** 0.5
        ),
    }
    if not warmup:
        return shapes[name]()
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, warmup), shapes[name]()], [warmup]
    )


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
    """Returns the rate of a step.

    Raises:
        ValueError: a function that returns something else.
    """
    value = rate(step)
    if not isinstance(value, jax.Array | np.ndarray | np.generic | float | int) or np.ndim(value):
        raise ValueError(f"learning_rate: the function returned {value!r:.80}; expected a number")
    return value


def decay_rule(template: fp.Params) -> LeafTest:
    """Returns which leaves decay by default: those of two or more dimensions, with which inputs are
    multiplied or looked up; no biases and no norms. Axes of stacked layers and experts do not
    count.

    Args:
        template: `model.abstract_params()`, whose leaves know such axes. A leaf of an adapter is
            at the path of its weight, the adapter's name, and its own.
    """
    leaves = fp.flatten(template)

    def decays(path: str, leaf: Leaf) -> bool:
        if path.endswith(("bias", "scale")):
            return False
        own = leaves.get(path)
        if own is None:
            own = leaves.get("/".join(path.split("/")[:-2]))
        axes = getattr(own, "axes", ())
        stacked = next((i for i, axis in enumerate(axes) if axis not in _LISTS), len(axes))
        return leaf.ndim - stacked >= 2

    return decays


_LISTS = ("layers", "experts")


def settled(mask: Mask | str | Iterable[str]) -> Mask | str | tuple[str, ...]:
    """Returns a mask or patterns as a value that can be read more than once."""
    if isinstance(mask, str | Mapping) or callable(mask) or not isinstance(mask, Iterable):
        return mask
    return tuple(mask)


def leaf_test(what: str, mask: Mask | str | tuple[str, ...], params: fp.Params | None) -> LeafTest:
    """Returns which leaves a mask, or regular expressions on paths, choose.

    Args:
        what: the name of the argument, for errors.
        params: the tree of which it speaks; None where it is not known yet, so that patterns cannot
            be held against it.

    Raises:
        ValueError: a mask that does not fit the tree, a pattern that matches no path, or nothing
            that is chosen.
    """
    patterns = (mask,) if isinstance(mask, str) else mask if isinstance(mask, tuple) else ()
    for pattern in patterns:
        compiled(pattern)
    given: Mask = (
        mask if not isinstance(mask, str | tuple) else lambda path, _: matches(patterns, path)
    )
    if params is None:
        if callable(given):
            return given
        raise ValueError(f"{what}: give regular expressions, or a predicate, where adapters train")
    paths = fp.flatten(params)
    for pattern in patterns:
        if not any(matches(pattern, path) for path in paths):
            raise ValueError(f"{what}: {pattern!r} matches no path{nearest(pattern, paths)}")
    try:
        chosen = {path for path, yes in fp.flatten(fp.as_mask(given, params)).items() if yes}
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if not chosen:
        raise ValueError(f"{what}: the mask chooses none of the {len(paths)} leaves")
    return lambda path, _: path in chosen


def _mask(test: LeafTest, params: PyTree) -> PyTree:
    return tree_map_with_path(lambda keys, leaf: test(path_of(keys), leaf), params)


def _momentum(momentum: float, nesterov: bool) -> "optax.GradientTransformation":
    import optax

    return optax.trace(momentum, nesterov) if momentum else optax.identity()


def _adafactor(
    decay_rate: float,
    clipping_threshold: float | None,
    multiply_by_parameter_scale: bool,
    min_dim_size_to_factor: int,
    eps: float,
) -> "optax.GradientTransformation":
    import optax

    steps = [
        optax.scale_by_factored_rms(
            decay_rate=decay_rate, min_dim_size_to_factor=min_dim_size_to_factor, epsilon=eps
        )
    ]
    if clipping_threshold is not None:
        steps.append(optax.clip_by_block_rms(clipping_threshold))
    if multiply_by_parameter_scale:
        steps.append(optax.scale_by_param_block_rms())
    return optax.chain(*steps)
