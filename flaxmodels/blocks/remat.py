"""Rematerialisation: what a layer keeps for the backward pass, and what is computed again."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn

POLICIES = (
    "full",
    "nothing_saveable",
    "everything_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "checkpoint_dots",
    "checkpoint_dots_with_no_batch_dims",
)
"""Names: "full" keeps what enters a layer and nothing in it; others are of
`jax.checkpoint_policies`."""

_TORCH_OPTIONS = {
    "use_reentrant": (None, False),
    "preserve_rng_state": (None, True),
    "determinism_check": (None, "default"),
    "debug": (None, False),
    "context_fn": (None,),
    "static_argnums": (None, ()),
}
"""Options of `torch.utils.checkpoint`, and one of JAX's that layers cannot use -> the values that
change nothing here."""


class Remat(NamedTuple):
    """A policy with options.

    Attributes:
        policy: a name, or a policy as `jax.checkpoint_policies` has and makes them.
        prevent_cse: see `jax.checkpoint`; None for what the loop or the scan over layers needs.
    """

    policy: Any = "full"
    prevent_cse: bool | None = None


def as_remat(value: object) -> Hashable:
    """Normalises the field `remat` of a model to what `remat` takes.

    Args:
        value: None or False; True for "full"; the name of a policy, or a policy; or a mapping of
            `policy` and `prevent_cse`.

    Raises:
        ValueError: no such policy.
        TypeError: an option that would change nothing.
    """
    if value is None or value is False:
        return None
    if value is True:
        return "full"
    if isinstance(value, Remat):
        return value
    if isinstance(value, Mapping):
        return _of_options(value)
    if callable(value):
        return value
    if not isinstance(value, str) or value not in POLICIES:
        raise ValueError(
            f"remat {value!r}: expected None or one of {', '.join(POLICIES)}, a policy of "
            "jax.checkpoint_policies, or a mapping of policy and prevent_cse"
        )
    return value


def _of_options(options: Mapping[str, object]) -> Hashable:
    for name, value in options.items():
        if name in ("policy", "prevent_cse"):
            continue
        if name not in _TORCH_OPTIONS:
            raise TypeError(f"remat has no option {name!r}; there are policy and prevent_cse")
        if not any(value is neutral or value == neutral for neutral in _TORCH_OPTIONS[name]):
            raise TypeError(f"remat's option {name}={value!r} would change nothing; leave it out")
    policy = as_remat(options.get("policy", "full"))
    prevent_cse = options.get("prevent_cse")
    if not (prevent_cse is None or isinstance(prevent_cse, bool)):
        raise TypeError(f"remat's option prevent_cse must be a bool, got {prevent_cse!r}")
    if policy is None or prevent_cse is None or isinstance(policy, Remat):
        return policy
    return Remat(policy, prevent_cse)


def remat(body: Callable, setting: Any, **options: Any) -> Callable:
    """Wraps a layer's step: the backward pass computes again what the policy does not save.

    Args:
        setting: as `as_remat` takes it.
        **options: of `nn.remat`; those of `setting` override them.
    """
    setting = as_remat(setting)
    if setting is None:
        return body
    policy, prevent_cse = setting if isinstance(setting, Remat) else (setting, None)
    if prevent_cse is not None:
        options["prevent_cse"] = prevent_cse
    if isinstance(policy, str):
        policy = None if policy == "full" else getattr(jax.checkpoint_policies, policy)
    return nn.remat(body, policy=policy, **options)
