"""Optimizers by name, as optax transforms; rates by path."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
from jax.tree_util import KeyPath, tree_map_with_path

from ...params.scalars import flag, whole
from ...params.tree.paths import matches, nearest, path_of
from ...params.types import PyTree
from ..argument_checks import number
from .leaf_tests import LeafTest, leaf_test
from .schedules import Schedule

if TYPE_CHECKING:
    import optax


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
    decay = rule.weight_decay if weight_decay is None else number("weight_decay", weight_decay)
    if decays is not None and not decay:
        raise ValueError(f"decay_mask: no weight decays by {name}; give weight_decay= as well")
    if decay:
        mask = functools.partial(_mask, decays or matrices, decays is not None)
        steps.append(optax.add_decayed_weights(decay, mask))
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
            flag(what, value)
        elif isinstance(default, int):
            whole(what, value)
        elif value is not None or option != "clipping_threshold":
            value = number(what, value)
            if option in _FRACTIONS and value >= 1:
                raise ValueError(f"{what} is {value}; expected a decay below 1")
    return dict(given)


def by_path(factors: Mapping[str, float]) -> "optax.GradientTransformation":
    """Makes the transform that multiplies the updates of leaves by factors; its `init` raises
    `ValueError` for one that no leaf has.

    Args:
        factors: {regular expression on the path: factor}; the first that matches counts, and 1
            where none does.
    """
    import optax

    def init(params: PyTree) -> "optax.OptState":
        for pattern in factors:
            leaf_test("rate_factors", pattern, params)
        return optax.EmptyState()

    def update(
        updates: PyTree, state: "optax.OptState", params: PyTree = None
    ) -> "tuple[PyTree, optax.OptState]":
        def one(key_path: KeyPath, x: jax.Array) -> jax.Array:
            path = path_of(key_path)
            return x * next((f for pattern, f in factors.items() if matches(pattern, path)), 1.0)

        return tree_map_with_path(one, updates), state

    return optax.GradientTransformation(init, update)


def _mask(test: LeafTest, is_given: bool, params: PyTree) -> PyTree:
    """Returns which params decay; raises `ValueError` if a caller's test chooses none."""
    mask = tree_map_with_path(lambda keys, leaf: test(path_of(keys), leaf), params)
    if is_given and not any(jax.tree.leaves(mask)):
        raise ValueError("decay_mask chooses none of the leaves that are trained")
    return mask


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
