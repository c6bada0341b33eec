"""`adapter_config.json` of PEFT: read, checked, kept and written again."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from ...errors import CheckpointError, quoted, some, warn
from ...formats.store import LOCAL, Store
from ...strict_json import Json
from .keys import CHANGES_BASE, KEPT, METHODS, NAMES, REFUSED, TASKS

CONFIG_NAME = "adapter_config.json"
_MOST_BYTES = 4 << 20
_LARGEST_RANK = 1 << 20
_MERGE = "merge it into its base with peft's merge_and_unload(), and save that"

Names = str | tuple[str, ...] | None
"""A regular expression on the whole name of a module, or ends of names, segment by segment."""
Pattern = tuple[tuple[str, float], ...]
"""Ordered (regular expression on the end of a module's name, number)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeftConfig:
    """Describes an adapter, in PEFT's words; its fields are keys of `adapter_config.json`.

    Attributes:
        peft_type: "LORA", "LOHA", "LOKR", "IA3" or "TRAINABLE_TOKENS".
        r: the rank.
        alpha: what the update is multiplied with, over the rank; `lora_alpha` in the file of LoRA.
        target_modules: which modules are adapted, by the names that PyTorch has for them:
            "all-linear", a regular expression on whole names, or ends of names.
        exclude_modules: the same of those that are not.
        layers_to_transform: numbers of layers; () for all.
        layers_pattern: names of the lists of layers that these count in; () for a name's first.
        rank_pattern, alpha_pattern: other ranks and alphas for modules whose name ends so.
        modules_to_save: ends of names of modules that are replaced as a whole.
        bias: which biases of the base are replaced: "none", "all", or "lora_only".
        fan_in_fan_out: the base stores kernels (in, out), as GPT-2 does. Names tell us, so that it
            is kept and not read.
        use_rslora: alpha is divided by the root of the rank.
        use_dora: kernels are decomposed into direction and magnitude.
        lora_bias: the update has a bias of its own.
        lora_dropout: kept; nothing is dropped here.
        trainable_token_indices: (end of a table's name, rows) of tables that have some rows
            replaced; the name is "" for the table of tokens.
        ensure_weight_tying: whether what is tied to an adapted table gets the same update.
        feedforward_modules: of IA3: those whose input is scaled, not the output.
        decompose_both, decompose_factor: how LoKr cuts a kernel.
        extra: the other keys of the file, which are written again.
    """

    peft_type: str = "LORA"
    r: int = 8
    alpha: float = 8
    target_modules: Names = None
    exclude_modules: Names = None
    layers_to_transform: tuple[int, ...] = ()
    layers_pattern: tuple[str, ...] = ()
    rank_pattern: Pattern = ()
    alpha_pattern: Pattern = ()
    modules_to_save: tuple[str, ...] = ()
    bias: str = "none"
    fan_in_fan_out: bool = False
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    lora_dropout: float = 0.0
    trainable_token_indices: tuple[tuple[str, tuple[int, ...]], ...] = ()
    ensure_weight_tying: bool = False
    feedforward_modules: Names = None
    decompose_both: bool = False
    decompose_factor: int = -1
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    extra: Mapping[str, Json] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Json], where: str = CONFIG_NAME) -> Self:
        """Makes a configuration of the content of `adapter_config.json`.

        Args:
            where: of the file, for errors.

        Raises:
            CheckpointError: a method or a field that changes the mathematics and is not done here,
                or a value that is not of its kind; with what to do.
        """
        method = values.get("peft_type")
        if method not in METHODS:
            raise CheckpointError(
                f"{where}: peft_type is {quoted(method)}; adapters of {', '.join(METHODS)} are "
                f"read. {_MERGE.capitalize()}, if the method can be merged"
            )
        names, kept = NAMES[method], KEPT[method]
        _refuse(values, where)
        fields: dict[str, Any] = {}
        for key, name in names.items():
            if key in values:
                fields[name] = _CHECKS[name](f"{where}: {key}", values[key])
        fields = {name: value for name, value in fields.items() if value is not None}
        extra = {key: value for key, value in values.items() if key not in names}
        unknown = [key for key in extra if key not in kept and extra[key] not in _EMPTY]
        if unknown:
            warn(
                f"{where}: {some(map(quoted, sorted(unknown)), 5)} is nothing that PEFT "
                f"0.21 knows of {method}; it is kept, and changes nothing"
            )
        config = cls(**fields, extra=extra)
        if reason := config._contradiction():
            raise CheckpointError(f"{where}: {reason}")
        return config

    def to_dict(self) -> dict[str, Json]:
        """Returns the content of `adapter_config.json`: every key that PEFT writes, and those of
        `extra`."""
        names = NAMES[self.peft_type]
        values = {key: _written(name, getattr(self, name)) for key, name in names.items()}
        return KEPT[self.peft_type] | dict(self.extra) | values

    def text(self) -> str:
        """Formats the file as PEFT does."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, allow_nan=False)

    def _contradiction(self) -> str | None:
        """Returns what is wrong with the fields together; None if nothing is."""
        target, scaled = self.target_modules, self.feedforward_modules
        if isinstance(target, str) and (self.layers_to_transform or self.layers_pattern):
            return (
                "target_modules is a regular expression, which layers_to_transform and "
                "layers_pattern cannot restrict; let it say the layers"
            )
        if self.layers_pattern and not self.layers_to_transform:
            return "layers_pattern without layers_to_transform, whose numbers it is for"
        if self.use_dora and self.lora_bias:
            return "use_dora and lora_bias, which PEFT does not have together"
        if isinstance(target, tuple) and isinstance(scaled, tuple) and {*scaled} - {*target}:
            odd = sorted({*scaled} - {*target})
            return (
                f"feedforward_modules has {some(map(quoted, odd), 3)}, which is no target_modules"
            )
        return None


_EMPTY: tuple[Json, ...] = (None, False, 0, "", [], {})


def read_config(folder: str | os.PathLike, store: Store = LOCAL) -> PeftConfig:
    """Reads the `adapter_config.json` of a folder, or a file of it.

    Raises:
        CheckpointError: none there, no JSON, or as `PeftConfig.from_dict`.
    """
    folder = os.fspath(folder)
    path = os.path.join(folder, CONFIG_NAME) if store.is_folder(folder) else folder
    if not store.exists(path):
        raise CheckpointError(f"{path}: no such file, so that {folder} is no adapter of PEFT")
    values = store.open(path, _MOST_BYTES).json("the configuration of an adapter")
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return PeftConfig.from_dict(values, path)


def has_config(folder: str | os.PathLike, store: Store = LOCAL) -> bool:
    """Tells whether there is an `adapter_config.json` in a folder."""
    return store.exists(os.path.join(os.fspath(folder), CONFIG_NAME))


def _refuse(values: Mapping[str, Json], where: str) -> None:
    """Refuses what changes the mathematics and is not done."""
    if values["peft_type"] != "LORA":
        return
    for key, what in REFUSED.items():
        if values.get(key) not in _EMPTY:
            raise CheckpointError(
                f"{where}: {key} is {quoted(values[key])}: {what}, is not done here; {_MERGE}"
            )
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BASE):
        raise CheckpointError(
            f"{where}: init_lora_weights is {quoted(start)}: the adapter is relative to a base "
            "that PEFT changed when it began, which is nowhere in these files; save it with "
            "save_pretrained(path_initial_model_for_weight_conversion=...) of PEFT, or "
            f"{_MERGE}"
        )


# --- values of fields: each check returns the field's value, None where the default stands ---


def _wrong(what: str, expected: str, value: Json) -> CheckpointError:
    shown = value if isinstance(value, int | float | bool) else json.dumps(value)[:200]
    return CheckpointError(f"{what} is {shown}; expected {expected}")


def _text(what: str, value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise _wrong(what, "a text", value)


def _flag(what: str, value: Json) -> bool | None:
    if value is None or type(value) is bool:
        return value
    raise _wrong(what, "true or false", value)


def _whole(least: int, most: int) -> Callable[[str, Json], int | None]:
    def check(what: str, value: Json) -> int | None:
        if value is None or (type(value) is int and least <= value <= most):
            return value
        raise _wrong(what, f"a whole number from {least} to {most}", value)

    return check


def _number(what: str, value: Json) -> float | None:
    if value is None or (type(value) in (int, float) and math.isfinite(value)):
        return value
    raise _wrong(what, "a finite number", value)


def _one_of(*names: str | None) -> Callable[[str, Json], str | None]:
    def check(what: str, value: Json) -> str | None:
        if value is None or value in names:
            return value
        raise _wrong(what, f"one of {', '.join(map(str, names))}", value)

    return check


def _texts(what: str, value: Json) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(x, str) and x for x in value):
        raise _wrong(what, "a list of names", value)
    return tuple(dict.fromkeys(value))


def _names(what: str, value: Json) -> Names:
    return value if isinstance(value, str) else _texts(what, value)


def _numbers(what: str, value: Json) -> tuple[int, ...] | None:
    if value is None:
        return None
    value = [value] if type(value) is int else value
    if not isinstance(value, list) or not all(type(x) is int and 0 <= x < 1 << 31 for x in value):
        raise _wrong(what, "whole numbers from 0 on", value)
    return tuple(value)


def _pattern(check: Callable[[str, Json], float | None]) -> Callable[[str, Json], Pattern | None]:
    def checked(what: str, value: Json) -> Pattern | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _wrong(what, "an object of patterns and numbers", value)
        pairs = []
        for pattern, number in value.items():
            number = check(f"{what}: {quoted(pattern)}", number)
            if number is None:
                raise _wrong(f"{what}: {quoted(pattern)}", "a number", None)
            pairs.append((pattern, number))
        return tuple(pairs)

    return checked


def _rows(what: str, value: Json) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
    if value is None:
        return None
    tables = value if isinstance(value, dict) else {"": value}
    found = []
    for table, rows in tables.items():
        name = f"{what}: {quoted(table)}" if table else what
        numbers = _numbers(name, rows if isinstance(rows, list) else [rows])
        if not numbers or len({*numbers}) < len(numbers):
            raise _wrong(name, "a list of different rows", rows)
        found.append((table, numbers))
    return tuple(found)


_RANK = _whole(1, _LARGEST_RANK)
_CHECKS: dict[str, Callable[[str, Json], Any]] = {
    "peft_type": _text,
    "task_type": _one_of(*TASKS),
    "base_model_name_or_path": _text,
    "revision": _text,
    "target_modules": _names,
    "exclude_modules": _names,
    "feedforward_modules": _names,
    "modules_to_save": _texts,
    "layers_to_transform": _numbers,
    "layers_pattern": _texts,
    "rank_pattern": _pattern(_RANK),
    "alpha_pattern": _pattern(_number),
    "r": _RANK,
    "alpha": _number,
    "bias": _one_of("none", "all", "lora_only"),
    "fan_in_fan_out": _flag,
    "use_rslora": _flag,
    "use_dora": _flag,
    "lora_bias": _flag,
    "lora_dropout": _number,
    "trainable_token_indices": _rows,
    "ensure_weight_tying": _flag,
    "decompose_both": _flag,
    "decompose_factor": _whole(-1, _LARGEST_RANK),
}


def _written(name: str, value: Any) -> Json:
    """Returns a field's value as the file has it."""
    if name in ("rank_pattern", "alpha_pattern"):
        return dict(value)
    if name == "trainable_token_indices":
        tables = {table: list(rows) for table, rows in value}
        return tables.get("", tables) if tables else None
    if isinstance(value, tuple):
        return list(value) or None
    return value


def unchecked(names: Sequence[str]) -> list[str]:
    """Returns the fields among `names` that have no check; for the tests."""
    return [name for name in names if name not in _CHECKS]
