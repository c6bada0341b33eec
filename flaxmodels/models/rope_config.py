"""RoPE scaling in configurations: `rope_parameters` read in every spelling, filled in, and written.
`rope_checks` checks them, `blocks/rope/rope_scaling.py` computes the frequencies."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from flax.core import FrozenDict

from ..blocks import ROPE_TYPES
from ..config.config import FROM_OTHERS, Config
from ..documents.json_values import ConfigError, Json, JsonObject, freeze, shown
from ..params.errors import quoted, some, warn
from . import rope_checks
from .rope_checks import ORIGINAL

_BESIDE = ("rope_theta", "partial_rotary_factor", ORIGINAL)  # where older files have them
_TRAINED_SHORTER = ("llama3", "yarn", "longrope")
_LONGEST_NAME = 200  # of a key that may be left out


class RopeRules(NamedTuple):
    """Says what the rotations of a family are called, and what a `config.json` leaves open.

    Attributes:
        defaults: rotation -> parameters that it has where none are given. One rotation "default":
            `rope_parameters` are flat; other names: `rope_parameters` are a mapping by name, and
            `rope_scaling` is that of the first. A family whose default has a
            `partial_rotary_factor` may rotate parts of heads, others may not.
        beside: key beside `rope_scaling` in files for Transformers 4 -> (rotation, parameter).
            `rope_theta`, `partial_rotary_factor` and `original_max_position_embeddings` are read of
            any file and as parameters of the first rotation; what is here is written, too.
        absent: parameters of the first rotation where a file has no `rope_parameters` at all.
        renamed: other names of types of this family -> our names.
        further: parameters that the family has beside those of the type.
        type_key: what Transformers 4 calls the type in `rope_scaling` ("type" in Phi-3's).
    """

    defaults: Mapping[str, JsonObject] = {"default": {"rope_theta": 10_000.0}}
    beside: Mapping[str, tuple[str, str]] = {"rope_theta": ("default", "rope_theta")}
    absent: JsonObject = {}
    renamed: Mapping[str, str] = {}
    further: tuple[str, ...] = ()
    type_key: str = "rope_type"

    @property
    def first(self) -> str:
        """The rotation that `rope_scaling` is of."""
        return next(iter(self.defaults))

    @property
    def spelled(self) -> dict[str, tuple[str, str]]:
        """All that may stand beside `rope_scaling`, as in `beside`, the family's own first."""
        return {**self.beside, **{k: (self.first, k) for k in _BESIDE if k not in self.beside}}

    def split(self, rope: JsonObject | None) -> dict[str, dict[str, Json]]:
        """Returns the parameters of each rotation that `rope_parameters` has.

        Raises:
            ConfigError: what is not a mapping, or not one by the names of the rotations.
        """
        rope = _mapping(rope)
        if "default" in self.defaults:
            return {"default": rope}
        if odd := [key for key in rope if key not in self.defaults]:
            raise ConfigError(
                f"rope_parameters has {some(map(quoted, odd))}; expected are parameters for each "
                f"of {', '.join(self.defaults)} (rope_scaling is that of {self.first})"
            )
        return {name: _mapping(value) for name, value in rope.items()}

    def joined(self, ropes: Mapping[str, JsonObject]) -> JsonObject:
        """Makes the `rope_parameters` that `split` splits."""
        return ropes["default"] if "default" in self.defaults else ropes


def one_rope(
    *,
    spelled: Mapping[str, str] = {},
    absent: Mapping[str, Json] = {},
    renamed: Mapping[str, str] = {},
    further: tuple[str, ...] = (),
    type_key: str = "rope_type",
    **defaults: Json,
) -> RopeRules:
    """Makes the rules of a family whose layers have one rotation.

    Args:
        spelled: keys in files for Transformers 4 -> parameters, where they are not called the same.
        **defaults: parameters where a file has none; `rope_theta` is 10,000 unless given.
        others: as in `RopeRules`.
    """
    defaults = {"rope_theta": 10_000.0} | defaults
    spelled = spelled or {key: key for key in defaults}
    beside = {key: ("default", parameter) for key, parameter in spelled.items()}
    return RopeRules({"default": defaults}, beside, absent, renamed, further, type_key)


def rope_by_type(*, spelled: Mapping[str, str], **thetas: float) -> RopeRules:
    """Makes the rules of a family with a rotation for each type of layer.

    Args:
        spelled: keys in files for Transformers 4 -> the layer type whose theta they have.
        **thetas: layer type -> theta where none is given; `rope_scaling` is of the first.
    """
    defaults = {name: {"rope_theta": theta} for name, theta in thetas.items()}
    return RopeRules(defaults, {key: (name, "rope_theta") for key, name in spelled.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotary(Config):
    """Adds `rope_parameters`, with the spellings of Transformers 4 in files and of callers.

    A field or property `head_dim` and the field `max_position_embeddings` are the family's.
    """

    rope_rules: ClassVar[RopeRules] = RopeRules()
    spellings: ClassVar[tuple[str, ...]] = ("rope_scaling", *_BESIDE)
    derived: ClassVar = {"rope_parameters": None}

    rope_parameters: FrozenDict[str, Json] = FROM_OTHERS

    def rope_for(self, name: str) -> FrozenDict[str, Json]:
        """Returns the parameters of a rotation: "default" where `rope_parameters` are flat, else
        the name of the layer type."""
        ropes: Json = self.rope_parameters  # whose type in flax allows for less than JSON has
        return ropes if "default" in self.rope_rules.defaults else ropes[name]

    @property
    def rope_theta(self) -> float:
        """The base of the frequencies, of the first rotation where there are several."""
        theta: Json = self.rope_for(self.rope_rules.first)["rope_theta"]
        return theta

    @property
    def rope_scaling(self) -> FrozenDict[str, Json] | None:
        """The parameters that Transformers 4 calls so, of the first rotation where there are
        several, without theta and other keys beside; None where nothing is stretched."""
        return freeze(self._older())

    def __getattr__(self, name: str) -> Any:
        if name in type(self).rope_rules.beside:
            rotation, parameter = type(self).rope_rules.beside[name]
            return self.rope_for(rotation)[parameter]
        return super().__getattr__(name)

    @classmethod
    def names(cls) -> frozenset[str]:
        """Returns all names under which something of this class can be given."""
        return super().names() | cls.rope_rules.beside.keys()

    def derive(self) -> None:
        super().derive()
        rules, given = self.rope_rules, self.rope_parameters
        ropes = rules.split(given) if given is not None else {rules.first: dict(rules.absent)}
        filled = {
            name: _filled(ropes.get(name), default, rules, self.max_position_embeddings)
            for name, default in rules.defaults.items()
        }
        object.__setattr__(self, "rope_parameters", freeze(rules.joined(filled)))

    def validate(self) -> None:
        super().validate()
        for name, default in self.rope_rules.defaults.items():
            rope_checks.check(
                self.rope_for(name),
                head_dim=self.head_dim,
                max_positions=self.max_position_embeddings,
                further=self.rope_rules.further,
                parts="partial_rotary_factor" in default,
                who="rope_parameters" + (f" of {name}" if name != "default" else ""),
            )

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Reads `rope_parameters` in either generation's spelling.

        Transformers 4 wrote `rope_theta` beside `rope_scaling`, whose type was once called `type`;
        Transformers 5 writes all in `rope_parameters`. Where there are both, they agree or, as in
        the reference, `rope_scaling` wins. What the type does not read is left out, with a warning.
        """
        values, rules = super().from_json_keys(values), cls.rope_rules
        ropes = rules.split(values.get("rope_parameters"))
        if scaling := values.pop("rope_scaling", None):
            kept = {} if "default" in ropes else ropes.get(rules.first, {})
            ropes[rules.first] = kept | _mapping(scaling)
        if not any(ropes.values()):
            ropes = {rules.first: dict(rules.absent)}
        for key, (name, parameter) in rules.spelled.items():
            if (value := values.pop(key, None)) is None:
                continue
            rope = ropes.setdefault(name, {})
            # a length beside wins: Phi-3 has the one that counts there
            rope[parameter] = value if parameter == ORIGINAL else rope.get(parameter, value)
        known = {name: _known_keys(rope, rules, cls.__name__) for name, rope in ropes.items()}
        values["rope_parameters"] = rules.joined(known)
        return values

    def to_json_keys(self, values: dict[str, Json]) -> dict[str, Json]:
        """Writes `rope_parameters` for Transformers 5 and the older keys for 4."""
        for key, (name, parameter) in self.rope_rules.beside.items():
            if parameter in (rope := self.rope_for(name)):
                values[key] = rope[parameter]
        values["rope_scaling"] = self._older()
        return super().to_json_keys(values)

    @classmethod
    def from_spellings(cls, values: dict[str, Json], current: Any) -> dict[str, Json]:
        """Turns a caller's spellings into `rope_parameters`: a new theta keeps the scaling, a new
        scaling the theta, and a new rotation the others."""
        rules, values = cls.rope_rules, super().from_spellings(values, current)
        given: dict[str, dict[str, Json]] = {}
        if "rope_parameters" in values:
            whole = values.pop("rope_parameters")
            given = rules.split(whole) if whole else {name: {} for name in rules.defaults}
        if "rope_scaling" in values:
            scaling = _mapping(values.pop("rope_scaling"))
            if freeze(given.setdefault(rules.first, scaling)) != freeze(scaling):
                raise ConfigError("rope_scaling is rope_parameters' old name; give one of them")
        beside = {key: values.pop(key) for key in rules.spelled if key in values}
        if not given and not beside:
            return values
        if current is not None:
            ropes = rules.split(current.rope_parameters)
        else:
            ropes = {} if rules.first in given else {rules.first: dict(rules.absent)}
        for name, rope in given.items():
            theta = {k: v for k, v in ropes.get(name, {}).items() if k == "rope_theta"}
            ropes[name] = theta | rope
        for key, value in beside.items():
            name, parameter = rules.spelled[key]
            if given.get(name, {}).get(parameter, value) != value:
                raise ConfigError(f"{key} is given twice, with different values")
            ropes.setdefault(name, {})[parameter] = value
        return values | {"rope_parameters": rules.joined(ropes)}

    def _older(self) -> dict[str, Json] | None:
        rules = self.rope_rules
        rope = dict(self.rope_for(rules.first))
        for name, parameter in rules.beside.values():
            if name == rules.first:
                rope.pop(parameter, None)
        kind = rope.pop("rope_type")
        return None if kind == "default" else {rules.type_key: kind} | rope


def _mapping(rope: Json) -> dict[str, Json]:
    if not isinstance(rope, Mapping | None):
        raise ConfigError(f"rope_scaling (or rope_parameters) must be a mapping, got {shown(rope)}")
    return dict(rope or {})


def _known_keys(rope: JsonObject, rules: RopeRules, who: str) -> JsonObject:
    """Returns the parameters of a file that are not None and that the type reads; warns of the
    others."""
    kind = rope.get("rope_type") or rope.get("type") or "default"
    kind = rules.renamed.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in ROPE_TYPES:
        return rope  # which the checks refuse
    rope = {key: value for key, value in rope.items() if value is not None}
    read = (*rope_checks.known(kind), *rules.further, "type", "max_position_embeddings")
    odd = [key for key in rope if key not in read]
    if layered := [key for key in odd if isinstance(rope[key], Mapping)]:
        raise ConfigError(
            f"rope_parameters has {some(map(quoted, layered))} apart; implemented is one for all "
            "layers"
        )
    if text := [key for key in odd if len(key) > _LONGEST_NAME]:
        raise ConfigError(f"rope_parameters has {quoted(text[0])}, which is no name of a key")
    if odd:
        warn(
            f"{who}: rope_parameters of config.json: {some(map(quoted, odd))} left out, which "
            f"{kind!r} does not read"
        )
    # Transformers 5 writes the config's own length into Ministral 3's, and does not read it there
    return {k: v for k, v in rope.items() if k not in (*odd, "max_position_embeddings")}


def _filled(
    rope: JsonObject | None, default: JsonObject, rules: RopeRules, max_positions: int
) -> JsonObject:
    """Fills in the type and what the family's rules say, and removes what is None."""
    rope = {key: value for key, value in (rope or {}).items() if value is not None}
    old_type = rope.pop("type", "default")
    rope = {"rope_type": old_type, **default} | rope
    if isinstance(kind := rope["rope_type"], str):
        rope["rope_type"] = rules.renamed.get(kind, kind)
    if rope["rope_type"] in _TRAINED_SHORTER:
        rope.setdefault(ORIGINAL, max_positions)
    return rope
