"""Labels of classifiers: `id2label`, `label2id` and `num_labels` are read as one."""

import json
import re
from collections.abc import Mapping

from flax.core import FrozenDict

from ..documents.json_values import ConfigError, Json, JsonObject, freeze, shown
from ..params.errors import quoted, some, warn

LABEL_KEYS = ("id2label", "label2id", "num_labels")


class Labels(FrozenDict[str, str]):
    """Maps a number to its label; takes the number or its text, since JSON's keys are texts."""

    __slots__ = ()

    def __getitem__(self, key: str | int) -> str:
        return str(super().__getitem__(_text(key)))

    def __contains__(self, key: object) -> bool:
        return super().__contains__(_text(key))

    def get(self, key: str | int, default: Json = None) -> Json:
        return super().get(_text(key), default)

    def __reduce__(self):
        return Labels, (dict(self),)


def _text(key: object) -> str:
    return key if isinstance(key, str) else str(freeze(key))


def labels_of_caller(values: JsonObject, num_labels: int) -> dict[str, Json]:
    """Turns what a caller gives of labels into the fields `id2label` and `num_labels`, or into one
    or none of them.

    Args:
        values: those of `LABEL_KEYS` that were given.
        num_labels: how many there are by default.

    Raises:
        ConfigError: what was given does not agree.
    """
    names = _names(values.get("id2label"), "id2label")
    backwards = _inverted(values.get("label2id"))
    if names and backwards is not None and not _agree(names, values["label2id"]):
        raise ConfigError(
            f"label2id is {shown(values['label2id'])}, which is not id2label, "
            f"{shown(names)}, the other way round; give one of them"
        )
    names = names or backwards
    count = values.get("num_labels")
    if not names:
        unsaid = {"id2label": None} if "id2label" in values or "label2id" in values else {}
        changed = {} if count is None or count == num_labels else {"id2label": None}
        return unsaid | changed | ({} if count is None else {"num_labels": count})
    if count is not None and freeze(count) != len(names):
        raise ConfigError(
            f"id2label names {len(names)} labels, num_labels is {shown(count)}; give only "
            "id2label, or make them agree"
        )
    return {"id2label": Labels(names), "num_labels": len(names)}


def labels_of_file(values: dict[str, Json], who: str) -> dict[str, Json]:
    """Turns what a `config.json` says of labels into the fields; what contradicts `id2label` is
    left out, with a warning.

    Labels that nobody gave, as `LABEL_0`, and empty lists of them are none.
    """
    values = {key: value for key, value in values.items() if value is not None}
    if not isinstance(names := values.get("id2label", {}), Mapping):
        return {"id2label": names}  # which the field's check refuses
    names = _names(names, "id2label")
    backwards = values.pop("label2id", None)
    if not names and backwards:
        try:
            names = _inverted(backwards)
        except ConfigError as error:
            warn(f"{who}: {error}; it is left out")
    elif names and backwards and not _agree(names, backwards, whole=False):
        warn(f"{who}: label2id says otherwise than id2label, which is used")
    if not names:
        return {key: values[key] for key in ("num_labels",) if key in values}
    if values.get("num_labels", len(names)) != len(names):
        warn(
            f"{who}: num_labels is {shown(values['num_labels'])} and id2label names {len(names)} "
            "labels, which are used"
        )
    if names == {str(i): f"LABEL_{i}" for i in range(len(names))}:
        return {"num_labels": len(names)}
    return {"id2label": Labels(names), "num_labels": len(names)}


def _names(labels: Json, key: str) -> dict[str, str] | None:
    """Reads {number: label} -> {the number's text: label}; a label may be a number, or null."""
    if labels is None:
        return None
    if not isinstance(labels, Mapping):
        raise ConfigError(f"{key} must map numbers to labels, got {shown(labels)}")
    names = {}
    for number, label in freeze(labels).items():
        if not re.fullmatch("[0-9]{1,10}", number):
            raise ConfigError(f"{key} must map numbers to labels, got the key {quoted(number)}")
        if isinstance(label, Mapping | tuple):
            raise ConfigError(f"{key} must map numbers to labels, got the label {shown(label)}")
        number = str(int(number))
        names[number] = f"LABEL_{number}" if label is None else _label(label)
    return names


def _label(label: Json) -> str:
    return label if isinstance(label, str) else json.dumps(label)


def _inverted(label2id: Json) -> dict[str, str] | None:
    if label2id is None:
        return None
    if not isinstance(label2id, Mapping):
        raise ConfigError(f"label2id must map labels to numbers, got {shown(label2id)}")
    numbers = {label: _number(label, number) for label, number in freeze(label2id).items()}
    names = {str(number): label for label, number in sorted(numbers.items(), key=lambda x: x[1])}
    if len(names) < len(numbers):
        twice = [label for label, number in numbers.items() if names[str(number)] != label]
        raise ConfigError(f"label2id gives {some(map(quoted, twice))} the number of another label")
    return names


def _number(label: str, number: Json) -> int:
    if isinstance(number, str) and re.fullmatch("[0-9]{1,10}", number):
        return int(number)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if type(number) is not int or not 0 <= number < 1 << 31:
        raise ConfigError(
            f"label2id must map labels to numbers, got {shown(number)} for {quoted(label)}"
        )
    return number


def _agree(names: Mapping[str, str], label2id: Json, whole: bool = True) -> bool:
    """Tells whether the two maps agree. Where several numbers have one label, `label2id` names one
    of them."""
    try:
        given = {_label(label): str(_number(label, n)) for label, n in freeze(label2id).items()}
    except (AttributeError, ConfigError):
        return False
    if any(names.get(number) != label for label, number in given.items()):
        return False
    return not whole or {*given} == {*names.values()}
