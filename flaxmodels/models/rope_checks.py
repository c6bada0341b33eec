"""Checks of `rope_parameters`: what each type of rope needs, and that it can be computed."""

import numpy as np

from ..blocks import ROPE_TYPES, rope_frequencies, rotary_dims
from ..documents.json_values import ConfigError, Json, JsonObject, shown
from ..params.errors import quoted

ORIGINAL = "original_max_position_embeddings"
_ANY = ("rope_type", "rope_theta", "partial_rotary_factor", ORIGINAL)
_LISTS = ("short_factor", "long_factor")
_OPTIONAL = {
    "yarn": ("factor", "attention_factor", "beta_fast", "beta_slow")
    + ("mscale", "mscale_all_dim", "truncate"),
    "longrope": ("factor", "attention_factor"),
    "proportional": ("factor",),
}
_POSITIVE = ("rope_theta", "factor", ORIGINAL)
_EVEN = ("yarn", "longrope")  # which the reference cannot compute for an odd part of a head
_MAX_HEAD_DIM = 1 << 16  # a table of so many numbers is made while a model is traced
_MAX_SCALE = 1e6  # of cosines: its square times a dot product must be a float32
_SMALLEST, _LARGEST = (float(x) for x in (np.finfo("float32").tiny, np.finfo("float32").max))


def known(kind: str) -> tuple[str, ...]:
    """Returns the keys that a type reads, or may have beside it."""
    return (*_ANY, *ROPE_TYPES[kind], *_OPTIONAL.get(kind, ()))


def check(
    rope: JsonObject,
    *,
    head_dim: int,
    max_positions: int,
    who: str,
    further: tuple[str, ...] = (),
    parts: bool = False,
) -> None:
    """Raises `ConfigError` unless the angles of a rotation can be computed and are finite.

    Args:
        who: what errors begin with.
        further: keys that are known beside those of the type.
        parts: a part of a head may be rotated, as `partial_rotary_factor` says, by any type.
    """

    def refuse(problem: str) -> None:
        raise ConfigError(f"{who} {problem}")

    kind = rope["rope_type"]
    if not isinstance(kind, str) or kind not in ROPE_TYPES:
        refuse(f"has rope_type {shown(kind)}; implemented: {', '.join(ROPE_TYPES)}")
    names = (*known(kind), *further)
    if unknown := sorted(set(rope) - {*names}):
        refuse(
            f"of type {kind!r} has the unknown key {quoted(unknown[0])}; known: {', '.join(names)}"
        )
    if missing := [key for key in ROPE_TYPES[kind] if key not in rope]:
        refuse(f"of type {kind!r} lacks {missing[0]!r}")
    if "llama_4_scaling_beta" in rope and ORIGINAL not in rope:
        refuse(f"has llama_4_scaling_beta, which needs {ORIGINAL}")
    if problem := _wrong_part(rope, head_dim, parts):
        refuse(problem)
    dims = rotary_dims(rope, head_dim)
    for key, value in rope.items():
        if key == "truncate" and not isinstance(value, bool):
            refuse(f"has truncate = {shown(value)}; expected true or false")
        if key in _LISTS and not _numbers(value, dims // 2):
            refuse(
                f"has {key} = {shown(value)}; expected {dims // 2} numbers, half of head_dim"
                + (" times partial_rotary_factor" if dims != head_dim else "")
            )
        if key not in ("rope_type", "truncate", *_LISTS) and (problem := _wrong(key, value)):
            refuse(f"has {key} = {shown(value)}; {problem}")
    if problem := _not_computable(rope, head_dim, max_positions):
        refuse(f"{shown(rope)} cannot be computed: {problem}")


def _wrong_part(rope: JsonObject, head_dim: int, parts: bool) -> str | None:
    """Returns what is wrong with the number of dimensions that turn."""
    kind, part = rope["rope_type"], rope.get("partial_rotary_factor", 1)
    if problem := _wrong("partial_rotary_factor", part):
        return f"has partial_rotary_factor = {shown(part)}; {problem}"
    if kind != "proportional" and part != 1 and not parts:
        return f"of type {kind!r} has partial_rotary_factor; only 'proportional' defines it here"
    if part > 1:
        return "has partial_rotary_factor greater than 1"
    if head_dim > _MAX_HEAD_DIM:
        return f"are for a head_dim of at most {_MAX_HEAD_DIM}, got {head_dim}"
    dims = rotary_dims(rope, head_dim)
    if dims == head_dim and dims % 2:
        return f"needs an even head_dim, got {head_dim}"
    if dims % 2 and kind in _EVEN or dims < 1:
        return (
            f"of type {kind!r} turns {dims} of a head's {head_dim} numbers (partial_rotary_factor "
            f"{part}); give a factor that makes it an even number above 0"
        )
    if kind == "dynamic" and dims == 2:
        return "of type 'dynamic' needs a head_dim greater than 2, or more of it turning"
    return None


def _wrong(key: str, value: Json) -> str | None:
    """Returns what is wrong with a number of `rope_parameters`."""
    if not _is_float32(value) or value < 0:
        return "expected a number that is not negative"
    if value == 0 and key in _POSITIVE:
        return "expected a number above 0"
    if key == ORIGINAL and value >= 1 << 31:
        return "expected a number below 2**31"
    return None


def _is_float32(value: Json) -> bool:
    """Tells whether a float32 can hold this number, neither overflowing nor becoming 0."""
    return type(value) in (int, float) and (
        value == 0 or _SMALLEST <= abs(value) <= _LARGEST  # which compares integers exactly
    )


def _numbers(values: Json, count: int) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(map(_is_float32, values))


def _not_computable(rope: JsonObject, head_dim: int, max_positions: int) -> str | None:
    """Returns what goes wrong in the angles of the last position, at each length at which a formula
    changes; None if all are finite."""
    original = int(rope.get(ORIGINAL, max_positions))
    for length in sorted({1, original, original + 1, max_positions, 2 * max_positions}):
        try:
            with np.errstate(divide="raise", over="raise", invalid="raise", under="ignore"):
                frequencies, scale = rope_frequencies(rope, length, head_dim, max_positions)
                angles = np.asarray(frequencies) * np.float32(max(length, max_positions))
        except (ArithmeticError, ValueError) as error:
            return str(error)
        if not np.isfinite(angles).all():
            return f"an angle at length {length} is no float32"
        if not 0 <= scale <= _MAX_SCALE:
            return f"the factor on cosines and sines is {scale}, expected at most {_MAX_SCALE:g}"
    return None
