"""Values of `adapter_config.json`: each check returns that of a field, which is not null."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...errors import CheckpointError, quoted
from ...strict_json import Json
from .keys import METHODS, TASKS

Names = str | tuple[str, ...] | None
"""A regular expression on the whole name of a module, or ends of names, segment by segment."""
Pattern = tuple[tuple[str, float], ...]
"""Ordered (regular expression on the end of a module's name, number)."""

_LARGEST_RANK = 1 << 20


def _wrong(what: str, expected: str, value: Json) -> CheckpointError:
    shown = value if isinstance(value, int | float) else json.dumps(value, default=repr)[:200]
    return CheckpointError(f"{what} is {shown}; expected {expected}")


def _fits(is_one: Callable[[Any], bool], expected: str) -> Callable[[str, Json], Json]:
    """Makes the check of a value for which `is_one` holds."""

    def check(what: str, value: Json) -> Json:
        if is_one(value):
            return value
        raise _wrong(what, expected, value)

    return check


def _is_number(value: Json) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _whole(least: int, most: int) -> Callable[[str, Json], int]:
    expected = f"a whole number from {least} to {most}"
    return _fits(lambda x: type(x) is int and least <= x <= most, expected)


def _one_of(*names: str) -> Callable[[str, Json], str]:
    return _fits(lambda x: x in names, f"one of {', '.join(names)}")


_text = _fits(lambda x: isinstance(x, str), "a text")
_flag = _fits(lambda x: type(x) is bool, "true or false")
_number = _fits(_is_number, "a finite number")
_share = _fits(lambda x: _is_number(x) and 0 <= x <= 1, "a share from 0 to 1")


def _texts(what: str, value: Json) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(x, str) and x for x in value):
        raise _wrong(what, "a list of names", value)
    return tuple(dict.fromkeys(value))


def _names(what: str, value: Json) -> Names:
    return value if isinstance(value, str) else _texts(what, value)


def _numbers(what: str, value: Json) -> tuple[int, ...]:
    value = [value] if type(value) is int else value
    if not isinstance(value, list) or not all(type(x) is int and 0 <= x < 1 << 31 for x in value):
        raise _wrong(what, "whole numbers from 0 on", value)
    return tuple(value)


def _pattern(check: Callable[[str, Json], float]) -> Callable[[str, Json], Pattern]:
    def checked(what: str, value: Json) -> Pattern:
        if not isinstance(value, dict):
            raise _wrong(what, "an object of patterns and numbers", value)
        return tuple((x, check(f"{what}: {quoted(x)}", number)) for x, number in value.items())

    return checked


def _rows(what: str, value: Json) -> tuple[tuple[str, tuple[int, ...]], ...]:
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
CHECKS: dict[str, Callable[[str, Json], Json]] = {
    "peft_type": _one_of(*METHODS),
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
    "lora_dropout": _share,
    "trainable_token_indices": _rows,
    "ensure_weight_tying": _flag,
    "decompose_both": _flag,
    "decompose_factor": _whole(-1, _LARGEST_RANK),
}


_PAIRS = ("rank_pattern", "alpha_pattern", "trainable_token_indices")


def of_caller(name: str, value: Json) -> Json:
    """Returns the value of a field that a caller gave, with Python's and NumPy's types; None where
    the default stands.

    Raises:
        CheckpointError: it is not of its kind.
    """
    value = plain(value)
    if name in _PAIRS and isinstance(value, list) and all(isinstance(x, list) for x in value):
        try:
            each = [dict([pair]) for pair in value]
        except (TypeError, ValueError):
            raise _wrong(name, "pairs, or an object", value) from None
        return tuple(pair for one in each for pair in CHECKS[name](name, one))
    return None if value is None else CHECKS[name](name, value)


def plain(value: Json) -> Json:
    """Returns a value as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, tuple | list):
        return [*map(plain, value)]
    if isinstance(value, Mapping):
        return {key: plain(x) for key, x in value.items()}
    return getattr(value, "value", value)  # of an enumeration


def written(name: str, value: Json) -> Json:
    """Returns a field's value as the file has it."""
    if name in ("rank_pattern", "alpha_pattern"):
        return dict(value)
    if name == "trainable_token_indices":
        tables = {table: list(rows) for table, rows in value}
        return tables.get("", tables) if tables else None
    if isinstance(value, tuple):
        return list(value) or None
    return value
