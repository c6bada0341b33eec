"""The schema of a family's `config.json`: names beside the fields' own, and hooks of the family."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from flax.core import FrozenDict

from ..documents.config_keys import HARMLESS, QUANTISED
from ..documents.field_types import hints_of
from ..documents.json_values import Json
from .labels import LABEL_KEYS

Rule = Callable[[Any], Json]
"""A configuration -> the value of one of its fields."""


class Schema:
    """Declares what a family's `config.json` may hold, apart from the fields of the dataclass."""

    model_type: ClassVar[str] = ""
    aliases: ClassVar[Mapping[str, str]] = {}
    """Other names under which a field may be read or given: {"hidden_size": "n_embd"}."""
    spellings: ClassVar[tuple[str, ...]] = ()
    """Names that a caller may also give, and that `from_spellings` turns into fields."""
    unsupported: ClassVar[Mapping[str, tuple[Json, ...]]] = {}
    """Keys that change the mathematics in ways not implemented -> the values that are fine."""
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    """Fields that count or measure something there may be none of."""
    harmless: ClassVar[tuple[str, ...]] = ()
    """Keys of the family's files that change nothing: kept, written back, not worth a warning."""
    sub_configs: ClassVar[Mapping[str, type]] = {}
    """{field: class} of the fields that are configurations themselves; `Config` for one of any
    family, by its `model_type`."""
    derived: ClassVar[Mapping[str, Rule | None]] = {}
    """Field that may be None when given, and then follows from others -> what it is of a
    configuration, or None where `derive` of a class says it; the bases' are added."""

    extra: FrozenDict[str, Json]
    num_labels: int

    def __init_subclass__(cls, **options: object):
        super().__init_subclass__(**options)
        # mixins have derived fields of their own, and a family states only what it adds
        each = [vars(base).get("derived", {}) for base in reversed(cls.__mro__)]
        cls.derived = {field: rule for derived in each for field, rule in derived.items()}

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Turns other spellings of `config.json` into the fields of this class; a family's hook."""
        return values

    def to_json_keys(self, values: dict[str, Json]) -> dict[str, Json]:
        """Adds what other readers of `config.json` expect; a family's hook."""
        return values

    @classmethod
    def from_spellings(cls, values: dict[str, Json], current: Self | None) -> dict[str, Json]:
        """Turns what a caller gives under the names in `spellings` into fields; a family's hook.

        Args:
            current: what is being changed; None for a constructor.
        """
        return values

    def layer_type(self, layer: int) -> str:
        """Returns the type of a layer, as `layer_types` of a `config.json` spells it."""
        return "full_attention"

    @classmethod
    def names(cls) -> frozenset[str]:
        """Returns all names under which something of this class can be given."""
        return frozenset({*hints_of(cls), *cls.aliases, *cls.spellings, *LABEL_KEYS} - {"extra"})

    @classmethod
    def knows(cls, key: str) -> bool:
        """Tells whether `replace` acts on `key`, or refuses it with a reason: a field, another name
        of one, or a key that any `config.json` may have."""
        return key in cls.names() or key in HARMLESS or key in (QUANTISED, *cls.unsupported)
