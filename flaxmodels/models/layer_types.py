"""Kinds of layers in configurations: which attention, which window and which rotation each has."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..blocks import Kind
from ..config.config import FROM_OTHERS, Config
from ..documents.json_values import ConfigError, Json, shown
from ..params.errors import quoted, some
from . import config_checks, rope_config

FULL, SLIDING = "full_attention", "sliding_attention"
_MOST_LAYERS = 1024  # of which each may have a kind of its own
_OLD_NAMES = {
    "attention": FULL,
    "mamba": "linear_attention",
    "deepseek_sparse_attention": "indexed_attention",
}

Rule = Callable[[Config, int], Json]
"""(config, number of a layer) -> what a field that has one value a layer says of it."""


def every(period: int | str, one: Json = FULL, others: Json = SLIDING, *, place: int = -1) -> Rule:
    """Makes the rule that one of each `period` layers is `one`, and the rest are `others`.

    Args:
        period: a number, or the name of the field that has it; None in the field is for no period,
            where the types have been given one by one.
        place: which of them: 0 is the first, -1 the last.
    """

    def rule(config: Config, layer: int) -> Json:
        size = getattr(config, period) if isinstance(period, str) else period
        if size is not None and size < 1:
            raise ConfigError(f"{period} is {size}; expected at least 1")
        return one if size is not None and (layer - place) % size == 0 else others

    return rule


def window_from(field: str) -> Rule:
    """Makes the rule that layers from number `config.<field>` on have the window, if there is one
    (Qwen 2 and 3)."""

    def rule(config: Config, layer: int) -> str:
        windowed = config.sliding_window is not None and layer >= getattr(config, field)
        return SLIDING if windowed else FULL

    return rule


def expanded(config: Config, field: str) -> tuple[str, ...]:
    """Returns the name of each layer that [[names, repeats], ...] of a field say (`attention_types`
    of GPT-Neo: [[["global", "local"], 12]]).

    Raises:
        ConfigError: another form, not one name for each layer, or very many layers.
    """
    names, depth, runs = [], _depth(config), getattr(config, field)
    for run in runs:
        match run:
            case (tuple(period), int(repeats)) if all(isinstance(name, str) for name in period):
                # no more than the layers: a number out of a file may be any
                names += period * min(max(repeats, 0), depth + 1)
            case _:
                raise ConfigError(f"{field} has {shown(run)}; expected [names, repeats]")
    if len(names) != depth:
        raise ConfigError(f"{field} = {shown(runs)} is not of num_hidden_layers = {depth} layers")
    return tuple(names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerKinds(Config):
    """Says of each layer what is static about it. A family whose config has the window and no
    `layer_types` has it in all layers; a family without a window attends to everything."""

    windows: ClassVar[Mapping[str, str]] = {SLIDING: "sliding_window"}
    """Layer type -> the field with its window."""

    @property
    def style(self) -> Any:
        """The values by which layers of the family differ from others of the same class."""
        raise TypeError(f"{type(self).__name__} defines no style")

    @property
    def layer_kinds(self) -> tuple[Kind, ...]:
        """The kind of each layer."""
        return tuple(
            Kind(self.layer_type(i), self.rotation_name(i)) for i in range(self.num_hidden_layers)
        )

    def layer_type(self, layer: int) -> str:
        """Returns the type of a layer: sliding if there is a window."""
        return SLIDING if getattr(self, self.windows[SLIDING], None) is not None else FULL

    def rotation_name(self, layer: int) -> str | None:
        """Returns which rotation a layer has, for `rope_for`; None for none."""
        if not isinstance(self, rope_config.Rotary):
            return None
        return "default" if "default" in self.rope_rules.defaults else self.layer_type(layer)

    def window(self, attention: str) -> int | None:
        """Returns how many keys a query of layers of this type sees, its own included; of a model
        that attends both ways, how far away a key may be; None for all."""
        field = self.windows.get(attention)
        return None if field is None else getattr(self, field)

    def derive(self) -> None:
        super().derive()
        if getattr(self, "use_sliding_window", True) is False:
            object.__setattr__(self, "sliding_window", None)  # which it makes void

    @classmethod
    def from_spellings(cls, values: dict[str, Json], current: Any) -> dict[str, Json]:
        """Refuses a window that is switched on and has no width."""
        now = cls if current is None else current
        if values.get("use_sliding_window") is True:
            if values.get("sliding_window", getattr(now, "sliding_window", None)) is None:
                raise ConfigError("use_sliding_window is True: give its sliding_window too")
        return super().from_spellings(values, current)

    def validate(self) -> None:
        super().validate()
        config_checks.activations(self)
        for field in self.windows.values():
            window = getattr(self, field, None)
            if window is not None and not 0 < window < 1 << 31:
                raise ConfigError(
                    f"{field} is {window}; a window holds the token itself and is below 2**31; "
                    "null is for none"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerTypes(LayerKinds):
    """Adds `layer_types`, and what a family's older files have in its place.

    Fields with one value a layer follow from others by `per_layer` where they are None, and again
    when `replace` changes those others, unless they were given and say something else.
    """

    derived: ClassVar = {"layer_types": None}
    per_layer: ClassVar[Mapping[str, Rule]] = {"layer_types": every(1)}
    """Field -> its rule, each after those that it reads."""
    pattern: ClassVar[str] = "sliding_window_pattern"
    """The field that Transformers before 4.53 reads in the place of `layer_types`, if there is
    one."""

    layer_types: tuple[str, ...] = FROM_OTHERS

    def layer_type(self, layer: int) -> str:
        """Returns the type of a layer."""
        return self.layer_types[layer]

    def derive(self) -> None:
        super().derive()
        for field, rule in self.per_layer.items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, _by_rule(self, rule))
        if getattr(self, self.pattern, None) is not None:
            if self.layer_types != _by_rule(self, self.per_layer["layer_types"]):
                object.__setattr__(self, self.pattern, None)  # which would be a wrong one

    def following(self) -> list[str]:
        per_layer = self.per_layer.items()
        return super().following() + [
            field for field, rule in per_layer if getattr(self, field) == _by_rule(self, rule)
        ]

    def validate(self) -> None:
        super().validate()
        depth = self.num_hidden_layers
        for field in self.per_layer:
            if len(values := getattr(self, field)) != depth:
                raise ConfigError(
                    f"{field} has {len(values)} values for num_hidden_layers = {depth}; give one "
                    "for each layer, or null for the family's own pattern"
                )
        known = (FULL, *self.windows)
        for kind, count in Counter(self.layer_types).items():
            if kind not in known:
                raise ConfigError(
                    f"layer_types has {quoted(kind)} in layer {self.layer_types.index(kind)}; "
                    f"implemented: {some(known)}"
                )
            if kind != FULL and getattr(self, self.windows[kind]) is None:
                raise ConfigError(
                    f"{count} of layer_types are {kind!r}, and {self.windows[kind]} is "
                    f"{shown(None)}; give the window, or {FULL!r} for these layers"
                )

    @classmethod
    def from_json_keys(cls, values: dict[str, Json]) -> dict[str, Json]:
        """Reads older names of layer types, and the name under which Transformers 5 writes Gemma
        3's `sliding_window_pattern`."""
        values = super().from_json_keys(values)
        pattern = values.pop("_sliding_window_pattern", None)
        if pattern is not None and "sliding_window_pattern" in cls.names():
            values.setdefault("sliding_window_pattern", pattern)
        kinds = values.get("layer_types")
        if isinstance(kinds, list | tuple):
            values["layer_types"] = [
                _OLD_NAMES.get(kind, kind) if isinstance(kind, str) else kind for kind in kinds
            ]
        return values


def _by_rule(config: Config, rule: Rule) -> tuple[Json, ...]:
    return tuple(rule(config, layer) for layer in range(_depth(config)))


def _depth(config: Config) -> int:
    depth = config.num_hidden_layers
    if depth > _MOST_LAYERS:
        raise ConfigError(
            f"num_hidden_layers is {depth}; a model whose layers differ has at most {_MOST_LAYERS}"
        )
    return depth
