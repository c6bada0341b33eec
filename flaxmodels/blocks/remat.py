"""Rematerialisation: what a layer keeps for the backward pass, and what is computed again."""

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

Tree = TypeVar("Tree")

NAMES = {
    "residual": "what enters a layer, [B, T, D]",
    "attention_qkv": "queries, keys and values as they are attended with, [B, T, N or K, H]",
    "attention_out": "what the heads of an attention give, [B, T, N*H]",
    "mlp_hidden": "what the first products of an MLP give, one or two of [B, T, F]",
}
"""Activations of a layer that a setting may name -> what each is."""

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

_BY_NAME = "'save:NAME,NAME', 'offload:NAME' or 'save:NAME offload:NAME'"

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
        policy: as `as_remat` takes it.
        prevent_cse: see `jax.checkpoint`; None for what the loop or the scan over layers needs.
    """

    policy: Any = "full"
    prevent_cse: bool | None = None


def as_remat(value: object) -> Hashable:
    """Normalises the field `remat` of a model to what `remat` takes.

    Args:
        value: None or False; True for "full"; the name of a policy, or a policy; "save:" and
            "offload:" with `NAMES` after them, of what is kept on the device and in the memory of
            the host, "save:attention_out,mlp_hidden offload:residual"; or a mapping of `policy`
            and `prevent_cse`.

    Raises:
        ValueError: no such policy, no such name, or one twice.
        TypeError: an option that would change nothing.
    """
    if value is None or isinstance(value, bool):
        return "full" if value else None
    if isinstance(value, Mapping):
        return _of_options(value)
    if isinstance(value, Remat) or callable(value):
        return value
    if isinstance(value, str) and (value in POLICIES or _by_name(value) is not None):
        return value
    raise ValueError(
        f"remat {value!r}: expected None or one of {', '.join(POLICIES)}, a policy of "
        f"jax.checkpoint_policies, {_BY_NAME}, or a mapping of policy and "
        "prevent_cse"
    )


@functools.lru_cache(maxsize=64)
def _by_name(text: str) -> Callable | None:
    """Makes the policy of a text such as "save:attention_out,mlp_hidden offload:residual"; None for
    a text of another form."""
    named: dict[str, list[str]] = {"save": [], "offload": []}
    for part in text.split():
        where, colon, names = part.partition(":")
        if not colon or where not in named:
            return None
        named[where] += names.split(",")
    every = [*named["save"], *named["offload"]]
    for i, name in enumerate(every):
        if name not in NAMES:
            listed = "; ".join(f"{known}, {what}" for known, what in NAMES.items())
            raise ValueError(f"remat {text!r}: no activation {name!r}; named are {listed}")
        if name in every[:i]:
            raise ValueError(f"remat {text!r}: {name!r} is named twice")
    policies = jax.checkpoint_policies
    if not named["offload"]:
        return policies.save_only_these_names(*every) if every else None
    return policies.save_and_offload_only_these_names(
        names_which_can_be_saved=named["save"],
        names_which_can_be_offloaded=named["offload"],
        offload_src="device",
        offload_dst="pinned_host",
    )


def named(tree: Tree, name: str) -> Tree:
    """Gives arrays one of `NAMES`, by which a setting of remat finds them; computes nothing."""
    return checkpoint_name(tree, name)


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


def remat(body: Callable, setting: Any, *, prevent_cse: bool = True) -> Callable:
    """Wraps a layer's step: the backward pass computes again what the policy does not save.

    Args:
        setting: as `as_remat` takes it.
        prevent_cse: see `jax.checkpoint`; what `setting` says overrides it.
    """
    setting = as_remat(setting)
    if setting is None:
        return body
    policy, asked = setting if isinstance(setting, Remat) else (setting, None)
    if isinstance(policy, str):
        if policy in POLICIES:
            policy = None if policy == "full" else getattr(jax.checkpoint_policies, policy)
        else:
            policy = _by_name(policy)
    return nn.remat(body, policy=policy, prevent_cse=prevent_cse if asked is None else asked)
