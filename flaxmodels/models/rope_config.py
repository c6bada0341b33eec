"""RoPE scaling in configurations: `rope_parameters` read in every spelling, checked by computing
them, and written. `blocks/rope_scaling.py` computes the frequencies."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from flax.core import FrozenDict

from ..blocks import ROPE_TYPES, rope_frequencies
from ..config.config import Config
from ..documents.json_values import ConfigError, Json, JsonObject, freeze, shown
from ..params.errors import quoted, some, warn

_ORIGINAL = "original_max_position_embeddings"
_BESIDE = ("rope_theta", "partial_rotary_factor", _ORIGINAL)  # where older files have them
_WHOLE = ("rope_parameters", "rope_scaling")
_LISTS = ("short_factor", "long_factor")
_OPTIONAL = {
    "yarn": ("factor", "attention_factor", "beta_fast", "beta_slow")
    + ("mscale", "mscale_all_dim", "truncate"),
    "longrope": ("factor", "attention_factor"),
    "proportional": ("factor",),
}
_TRAINED_SHORTER = ("llama3", "yarn", "longrope")
_POSITIVE = ("rope_theta", "factor", _ORIGINAL)
_MAX_HEAD_DIM = 1 << 16  # a table of so many numbers is made while a model is traced
_MAX_SCALE = 1e6  # of cosines: its square times a dot product must be a float32
_LONGEST_NAME = 200  # of a key that may be left out
_SMALLEST, _LARGEST = (float(x) for x in (np.finfo("float32").tiny, np.finfo("float32").max))


class Rotary:
    """Adds to a configuration with the field `rope_parameters` the spellings of Transformers 4, in
    files and of callers."""

    spellings: ClassVar[tuple[str, ...]] = ("rope_scaling", *_BESIDE)

    @property
    def rope_theta(self) -> float:
        """The base of the frequencies."""
        return self.rope_parameters["rope_theta"]  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def rope_scaling(self) -> FrozenDict[str, Json] | None:
        """`rope_parameters` without theta; None where nothing is stretched."""
        return freeze(_older(self.rope_parameters))  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Reads `rope_parameters` in either generation's spelling."""
        return _from_json(values, cls.__name__)

    def to_json_keys(self, values: dict[str, Json]) -> dict[str, Json]:
        """Writes `rope_parameters` for Transformers 5 and the older keys for 4."""
        values["rope_theta"] = values["rope_parameters"]["rope_theta"]
        values["rope_scaling"] = _older(values["rope_parameters"])
        return values

    @classmethod
    def from_spellings(cls, values: dict[str, Json], current: Any) -> dict[str, Json]:
        """Turns a caller's spellings into `rope_parameters`: a new theta keeps the scaling, a new
        scaling the theta."""
        whole = [values.pop(key) for key in _WHOLE if key in values]
        beside = {key: values.pop(key) for key in _BESIDE if key in values}
        if not whole and not beside:
            return values
        rope = {} if current is None else dict(current.rope_parameters)
        if whole:
            given = _mapping(whole[0])
            if freeze(whole[0]) != freeze(whole[-1]):
                raise ConfigError("rope_scaling is rope_parameters' old name; give one of them")
            if twice := [key for key in beside if given.get(key, beside[key]) != beside[key]]:
                raise ConfigError(f"{twice[0]} is given twice, with different values")
            rope = {key: rope[key] for key in ("rope_theta",) if key in rope} | given
        return values | {"rope_parameters": rope | beside}


def _mapping(rope: Json) -> dict[str, Json]:
    if not isinstance(rope, Mapping | None):
        raise ConfigError(f"rope_scaling (or rope_parameters) must be a mapping, got {shown(rope)}")
    return dict(rope or {})


def _from_json(values: dict[str, Json], who: str) -> dict[str, Json]:
    """Turns the keys of a `config.json` into the same with `rope_parameters` alone.

    Transformers 4 wrote `rope_theta` beside `rope_scaling`, whose type was once called `type`;
    Transformers 5 writes all in `rope_parameters`. Where there are both, they agree or, as in the
    reference, `rope_scaling` wins. What the type does not read is left out, with a warning.
    """
    rope = _mapping(values.pop("rope_scaling", None) or values.get("rope_parameters"))
    for key in ("rope_theta", "partial_rotary_factor"):
        if (value := values.pop(key, None)) is not None:
            rope.setdefault(key, value)
    if (original := values.pop(_ORIGINAL, None)) is not None:
        rope[_ORIGINAL] = original
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if isinstance(kind, str) and kind in ROPE_TYPES:
        rope = {key: value for key, value in rope.items() if value is not None}
        odd = [key for key in rope if key not in (*_known(kind), "type")]
        if layered := [key for key in odd if isinstance(rope[key], Mapping)]:
            raise ConfigError(
                f"rope_parameters has {some(map(quoted, layered))} apart; implemented is one for "
                "all layers"
            )
        if text := [key for key in odd if len(key) > _LONGEST_NAME]:
            raise ConfigError(f"rope_parameters has {quoted(text[0])}, which is no name of a key")
        if odd:
            warn(
                f"{who}: rope_parameters of config.json: {some(map(quoted, odd))} left out, which "
                f"{kind!r} does not read"
            )
        rope = {key: value for key, value in rope.items() if key not in odd}
    values["rope_parameters"] = rope
    return values


def _known(kind: str) -> tuple[str, ...]:
    """Returns the keys that a type reads, or may have beside it."""
    return ("rope_type", *_BESIDE, *ROPE_TYPES[kind], *_OPTIONAL.get(kind, ()))


def _older(rope: JsonObject) -> dict[str, Json] | None:
    rope = {key: value for key, value in rope.items() if key != "rope_theta"}
    return None if rope["rope_type"] == "default" else rope


def normalised(rope: JsonObject | None, max_positions: int) -> FrozenDict[str, Json]:
    """Fills in the type and theta of `rope_parameters`, and removes what is None."""
    rope = {key: value for key, value in (rope or {}).items() if value is not None}
    old_type = rope.pop("type", "default")
    rope = {"rope_type": old_type, "rope_theta": 10_000.0} | rope
    if rope["rope_type"] in _TRAINED_SHORTER:
        rope.setdefault(_ORIGINAL, max_positions)
    return FrozenDict(rope)


def check(config: Config) -> None:
    """Raises `ConfigError` unless `config.rope_parameters` can be computed, and is then finite."""

    def refuse(problem: str) -> None:
        raise ConfigError(f"{type(config).__name__}: rope_parameters {problem}")

    rope, dim = config.rope_parameters, config.head_dim
    kind = rope["rope_type"]
    if not isinstance(kind, str) or kind not in ROPE_TYPES:
        refuse(f"has rope_type {shown(kind)}; implemented: {', '.join(ROPE_TYPES)}")
    if unknown := sorted(set(rope) - {*_known(kind)}):
        refuse(
            f"of type {kind!r} has the unknown key {quoted(unknown[0])}; known: "
            f"{', '.join(_known(kind))}"
        )
    if missing := [key for key in ROPE_TYPES[kind] if key not in rope]:
        refuse(f"of type {kind!r} lacks {missing[0]!r}")
    if dim > _MAX_HEAD_DIM:
        refuse(f"are for a head_dim of at most {_MAX_HEAD_DIM}, got {dim}")
    if dim % 2:
        refuse(f"needs an even head_dim, got {dim}")
    if kind == "dynamic" and dim == 2:
        refuse("of type 'dynamic' needs a head_dim greater than 2")
    for key, value in rope.items():
        if key == "truncate" and not isinstance(value, bool):
            refuse(f"has truncate = {shown(value)}; expected true or false")
        if key in _LISTS and not _numbers(value, dim // 2):
            refuse(f"has {key} = {shown(value)}; expected {dim // 2} numbers, half of head_dim")
        if key not in ("rope_type", "truncate", *_LISTS) and (problem := _wrong(key, value)):
            refuse(f"has {key} = {shown(value)}; {problem}")
    if kind != "proportional" and rope.get("partial_rotary_factor", 1) != 1:
        refuse(f"of type {kind!r} has partial_rotary_factor; only 'proportional' defines it here")
    if rope.get("partial_rotary_factor", 1) > 1:
        refuse("has partial_rotary_factor greater than 1")
    if problem := _not_computable(rope, dim, config.max_position_embeddings):
        refuse(f"{shown(rope)} cannot be computed: {problem}")


def _wrong(key: str, value: Json) -> str | None:
    """Returns what is wrong with a number of `rope_parameters`."""
    if not _is_float32(value) or value < 0:
        return "expected a number that is not negative"
    if value == 0 and key in _POSITIVE:
        return "expected a number above 0"
    if key == _ORIGINAL and value >= 1 << 31:
        return "expected a number below 2**31"
    return None


def _is_float32(value: Json) -> bool:
    """Tells whether a float32 can hold this number, neither overflowing nor becoming 0."""
    return type(value) in (int, float) and (
        value == 0 or _SMALLEST <= abs(value) <= _LARGEST  # which compares integers exactly
    )


def _numbers(values: Json, count: int) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(map(_is_float32, values))


def _not_computable(rope: JsonObject, dim: int, max_positions: int) -> str | None:
    """Returns what goes wrong in the angles of the last position, at each length at which a formula
    changes; None if all are finite."""
    original = int(rope.get(_ORIGINAL, max_positions))
    for length in sorted({1, original, original + 1, max_positions, 2 * max_positions}):
        try:
            with np.errstate(divide="raise", over="raise", invalid="raise", under="ignore"):
                frequencies, scale = rope_frequencies(rope, length, dim, max_positions)
                angles = np.asarray(frequencies) * np.float32(max(length, max_positions))
        except (ArithmeticError, ValueError) as error:
            return str(error)
        if not np.isfinite(angles).all():
            return f"an angle at length {length} is no float32"
        if not 0 <= scale <= _MAX_SCALE:
            return f"the factor on cosines and sines is {scale}, expected at most {_MAX_SCALE:g}"
    return None
