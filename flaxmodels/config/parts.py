"""Configurations inside of a configuration: the text and the vision part of one model, an encoder
and a decoder. `sub_configs` of a class says which of its fields are such parts."""

from collections.abc import Callable, Mapping

from .. import registration
from ..documents.json_files import naming
from ..documents.json_values import ConfigError, Json, JsonObject, shown
from ..registry import ConfigClass
from .schema import Schema

_TEXT = ("text_config", "decoder")
"""The parts that have the vocabulary and make the tokens, under Transformers' names."""


def text_part(cls: type[Schema]) -> str | None:
    """Returns the field that holds the part with the vocabulary; None where there is none."""
    return next((name for name in _TEXT if name in cls.sub_configs), None)


def parts_of_file(cls: type[Schema], fields: dict[str, Json], path: str) -> dict[str, Json]:
    """Returns the fields of a file with its parts made into configurations.

    Raises:
        ConfigError: a part that cannot be read, with its name.
    """
    return fields | {
        name: _made(cls, name, value, lambda kind, value: kind.from_dict(value, path=path))
        for name, value in fields.items()
        if name in cls.sub_configs and isinstance(value, Mapping)
    }


def parts_of_caller(
    cls: type[Schema], fields: dict[str, Json], current: Schema | None
) -> dict[str, Json]:
    """Returns a caller's fields with its parts made into configurations: a mapping changes the
    part that there is, and is all of it where there is none, or one of another model type.

    Raises:
        ConfigError: a part that cannot be honoured, with its name.
        TypeError: a keyword of a part that would have no effect.
    """

    def made(name: str, value: JsonObject) -> Json:
        part = getattr(current, name, None)
        given = {key: item for key, item in value.items() if key != "model_type"}
        if part is not None and value.get("model_type", part.model_type) == part.model_type:
            return _made(cls, name, given, lambda _, given: part.replace(**given), type(part))
        return _made(cls, name, value, lambda kind, _: kind(**given))

    return fields | {
        name: made(name, value)
        for name, value in fields.items()
        if name in cls.sub_configs and isinstance(value, Mapping)
    }


def checked_part(cls: type[Schema], name: str, value: object, optional: bool) -> Json:
    """Returns the value of a part's field: one that is not given is the part's default.

    Raises:
        ConfigError: what is no configuration of the part's kind.
    """
    if value is None and not optional:
        value = _made(cls, name, {}, lambda kind, _: kind())
    if value is not None and not isinstance(value, cls.sub_configs[name]):
        raise ConfigError(
            f"{name} must be a {cls.sub_configs[name].__name__}, or a mapping of its fields, got "
            f"{shown(value)}"
        )
    return value


def _made(
    cls: type[Schema],
    name: str,
    value: JsonObject,
    make: Callable[[ConfigClass, JsonObject], Json],
    kind: ConfigClass = None,
) -> Json:
    """Makes a part; what is wrong with it is said with its name."""
    with naming(f"{cls.__name__}: {name}"):
        return make(kind or _kind_of(cls.sub_configs[name], value), value)


def _kind_of(kind: ConfigClass, value: JsonObject) -> ConfigClass:
    """Returns the class of a part: its own, or, where any family may stand, the one that the part
    names."""
    if kind.model_type:
        return kind
    if "model_type" not in value:
        raise ConfigError(f"it needs a model_type: one of {', '.join(registration.kinds())}")
    model_type = value["model_type"]
    if not registration.is_known(model_type):
        raise ConfigError(registration.no_family(model_type))
    return registration.config_for(model_type)
