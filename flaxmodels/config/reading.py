"""Reading configurations: what a file says, or a caller, becomes fields of a `Config`.

A file may say what has no effect here: it is kept, or left out with a warning. What a caller says
takes effect or raises.
"""

import dataclasses
from collections.abc import Mapping

from ..documents.config_keys import HARMLESS, QUANTISED, refusal
from ..documents.field_types import hints_of
from ..documents.json_files import naming
from ..documents.json_values import ConfigError, Json, JsonObject, freeze, is_finite, shown, thaw
from ..documents.remote_code import is_of_ours, names_code, without_code
from ..params.errors import quoted, some, warn
from ..registry import model_type_of
from .labels import LABEL_KEYS, labels_of_caller, labels_of_file
from .schema import Schema


def fields_of_file(cls: type[Schema], values: JsonObject, who: str) -> dict[str, Json]:
    """Turns a decoded `config.json` into fields of `cls`; keys that no field claims are `extra`.

    Args:
        who: what warnings begin with.

    Raises:
        ConfigError: a value that is not JSON, another family, labels that contradict each other.
    """
    name = cls.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: config.json is {shown(values)}; expected an object")
    try:
        freeze(values)
    except ConfigError as error:
        raise ConfigError(f"{name}: config.json {error}") from None
    if model_type_of(values.get("model_type", cls.model_type)) != cls.model_type:
        raise ConfigError(
            f"{name} reads model_type {cls.model_type!r}, config.json says "
            f"{shown(values['model_type'])}; use AutoConfig, or the class of that family"
        )
    with naming(name):
        fields, extra = _split(cls, cls.from_json_keys({**values, "model_type": cls.model_type}))
        labels = {key: fields.pop(key) for key in LABEL_KEYS if key in fields}
        fields |= labels_of_file(labels, who)
    del extra["model_type"]
    return _without_nulls(cls, fields) | {"extra": _extra_of_file(cls, extra, who)}


def _extra_of_file(cls: type[Schema], extra: dict[str, Json], who: str) -> dict[str, Json]:
    """Returns the keys that are kept of those that no field claims, with warnings."""
    if is_of_ours(extra.get("auto_map")):
        del extra["auto_map"]  # a save writes it again, from the class
    extra, code = without_code(extra)
    if code:
        warn(f"{who}: {some(code)} of config.json: remote code ignored, and not written back")
    if odd := [key for key, value in extra.items() if not is_finite(value)]:
        warn(
            f"{who}: {some(map(quoted, odd))} of config.json: Infinity or NaN, which is no "
            "JSON; left out"
        )
    extra = {key: value for key, value in extra.items() if key not in odd}
    if unknown := sorted(extra.keys() - HARMLESS.union(cls.unsupported, cls.harmless, [QUANTISED])):
        warn(
            f"{who} does not know {some(map(quoted, unknown))} of config.json: kept and "
            "written back, but not used"
        )
    return extra


def fields_of_caller(
    cls: type[Schema], given: JsonObject, current: Schema | None = None
) -> dict[str, Json]:
    """Turns a caller's keywords into fields of `cls`; each takes effect or raises.

    Args:
        current: the configuration that they change; None for a constructor.

    Raises:
        TypeError: a keyword that would have no effect.
        ConfigError: keywords that contradict each other.
    """
    values = dict(given)
    extra = values.pop("extra", {} if current is None else current.extra)
    with naming(cls.__name__):
        fields, rest = _split(cls, cls.from_spellings(values, current))
        labels = {key: fields.pop(key) for key in LABEL_KEYS if key in fields}
        fields |= labels_of_caller(labels, 2 if current is None else current.num_labels)
    for key, value in rest.items():
        if key in cls.unsupported or key == QUANTISED:
            continue  # `check_extra` knows which of their values are fine
        if error := refusal(cls.__name__, key, value, cls.names()):
            raise error
    return _without_nulls(cls, fields) | {"extra": {**extra, **rest} if rest else extra}


def check_extra(config: Schema) -> None:
    """Raises `ConfigError` for keys that no field claims and that still change the model."""
    names = config.names()
    for key, value in config.extra.items():
        if key in config.unsupported and value not in config.unsupported[key]:
            raise ConfigError(
                f"{key} = {shown(thaw(value))} changes the model in a way that is not implemented "
                f"(implemented: {', '.join(map(repr, config.unsupported[key]))})"
            )
        if key in names:
            raise ConfigError(f"extra holds {key}, which is a field of its own")
        if names_code(key, value):
            raise ConfigError(f"{key} names code, which is never followed")
        if not is_finite(value):
            raise ConfigError(f"{quoted(key)} is {shown(value)}, which is no JSON")
    if quantised := config.extra.get(QUANTISED):
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
        is_old = isinstance(quantised, Mapping) and any(map(quantised.get, _OF_BITSANDBYTES))
        if not isinstance(method, str) and not is_old:
            raise ConfigError(
                f"quantization_config is {shown(thaw(quantised))}; expected an object with "
                "quant_method, such as 'gptq'"
            )
    kinds = config.extra.get("layer_types")
    layers = getattr(config, "num_hidden_layers", 0)  # maybe 2**31: no tuple is made of them
    if kinds is None:
        return
    fits = isinstance(kinds, tuple) and len(kinds) == layers
    odd = [i for i, kind in enumerate(kinds) if kind != config.layer_type(i)] if fits else [0]
    if odd:
        raise ConfigError(
            f"layer_types is {shown(kinds)}; implemented is {config.layer_type(odd[0])!r} in layer "
            f"{odd[0]}, and a type for each layer"
        )


_OF_BITSANDBYTES = ("load_in_8bit", "load_in_4bit")
"""Keys by which older files say that they are quantised, without a quant_method."""


def _split(cls: type[Schema], values: JsonObject) -> tuple[dict[str, Json], dict[str, Json]]:
    """Returns (fields under their own names, labels among them; other keys)."""
    fields: dict[str, Json] = {}
    extra: dict[str, Json] = {}
    own = {*hints_of(cls), *LABEL_KEYS} - {"extra"}
    for given, value in values.items():
        key = cls.aliases.get(given, given)
        if key in fields and freeze(fields[key]) != freeze(value):
            raise ConfigError(
                f"{key} is given under two names, as {shown(fields[key])} and as {shown(value)}"
            )
        (fields if key in own else extra)[key] = value
    return fields, extra


def _without_nulls(cls: type, fields: JsonObject) -> dict[str, Json]:
    """Puts the default in the place of None for flags, probabilities, and what initialisation alone
    reads. A size or an epsilon has to be given."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(cls)
        if field.name in ("initializer_range", "pruned_heads", "num_labels")
        or type(field.default) is bool
        or ("drop" in field.name and field.default is not None)
    }
    return {k: defaults[k] if v is None and k in defaults else v for k, v in fields.items()}
