"""`rope_parameters` of a config: read from both generations of `config.json`, checked, written."""

import math
from collections.abc import Mapping
from typing import Any

from flax.core import FrozenDict

from ..blocks import ROPE_TYPES
from ..values import ConfigError

_LISTS = ("short_factor", "long_factor")
_NUMBERS = (
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "low_freq_factor",
    "high_freq_factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "partial_rotary_factor",
)
_KEYS = ("rope_type", "truncate", *_NUMBERS, *_LISTS)
_TRAINED_SHORTER = ("llama3", "yarn", "longrope")


def from_json(values: dict[str, Any]) -> dict[str, Any]:
    """`config.json` keys -> the same with `rope_parameters` alone.

    Transformers 4 wrote `rope_theta` beside `rope_scaling`, whose type was once called `type`;
    Transformers 5 writes all in `rope_parameters`. Where there are both, they agree or, as in the
    reference, `rope_scaling` wins.
    """
    rope = values.pop("rope_scaling", None) or values.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError(f"rope_scaling (or rope_parameters) must be a mapping, got {rope!r}")
    rope = dict(rope)
    for key in ("rope_theta", "partial_rotary_factor"):
        if (value := values.pop(key, None)) is not None:
            rope.setdefault(key, value)
    if (original := values.pop("original_max_position_embeddings", None)) is not None:
        rope["original_max_position_embeddings"] = original
    values["rope_parameters"] = rope
    return values


def to_json(values: dict[str, Any]) -> dict[str, Any]:
    """The inverse: `rope_parameters` for Transformers 5 and the older keys for 4."""
    rope = dict(values["rope_parameters"])
    values["rope_theta"] = rope.pop("rope_theta")
    values["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    return values


def normalised(rope: Mapping[str, Any] | None, max_positions: int) -> FrozenDict[str, Any]:
    """`rope_parameters` with its type and theta filled in, and nothing that is None."""
    rope = {key: value for key, value in (rope or {}).items() if value is not None}
    old_type = rope.pop("type", "default")
    rope = {"rope_type": old_type, "rope_theta": 10_000.0} | rope
    if rope["rope_type"] in _TRAINED_SHORTER:
        rope.setdefault("original_max_position_embeddings", max_positions)
    for key in _LISTS:
        if isinstance(rope.get(key), list):
            rope[key] = tuple(rope[key])
    return FrozenDict(rope)


def check(config: Any) -> None:
    """Raises `ConfigError` unless `config.rope_parameters` can be computed."""

    def refuse(problem: str) -> None:
        raise ConfigError(f"{type(config).__name__}: rope_parameters {problem}")

    rope, dim = config.rope_parameters, config.head_dim
    kind = rope["rope_type"]
    if kind not in ROPE_TYPES:
        refuse(f"has rope_type {kind!r}; implemented: {', '.join(ROPE_TYPES)}")
    if unknown := sorted(set(rope) - set(_KEYS)):
        refuse(f"has the unknown key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    if missing := [key for key in ROPE_TYPES[kind] if key not in rope]:
        refuse(f"of type {kind!r} lacks {missing[0]!r}")
    for key in _NUMBERS:
        if key in rope and (type(rope[key]) not in (int, float) or not 0 <= rope[key] < math.inf):
            refuse(f"has {key} = {rope[key]!r}; expected a number that is not negative")
    for key in ("rope_theta", "factor", "original_max_position_embeddings"):
        if rope.get(key) == 0:
            refuse(f"has {key} = 0")
    for key in ROPE_TYPES[kind]:
        if key in _LISTS and not _numbers(rope[key], dim // 2):
            refuse(f"has {key} = {rope[key]!r}; expected {dim // 2} numbers, half of head_dim")
    if kind != "proportional" and rope.get("partial_rotary_factor", 1) != 1:
        refuse(f"of type {kind!r} has partial_rotary_factor; only 'proportional' defines it here")
    if rope.get("partial_rotary_factor", 1) > 1:
        refuse("has partial_rotary_factor greater than 1")
    if dim % 2:
        refuse(f"needs an even head_dim, got {dim}")
    if kind == "dynamic" and dim == 2:
        refuse("of type 'dynamic' needs a head_dim greater than 2")


def _numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == count
        and all(type(value) in (int, float) for value in values)
    )
