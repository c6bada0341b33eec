"""Choosing: from the content of a `config.json` to the classes that run it."""

import contextlib
from collections.abc import Iterable, Mapping

from .. import registration
from ..documents.json_files import config_path, read_json
from ..documents.json_values import ConfigError, shown
from ..params.errors import quoted, some, warn
from ..registry import ConfigClass, ModelClass


def config_class(values: Mapping[str, object]) -> ConfigClass:
    """Finds the configuration class of a `model_type`.

    Raises:
        ConfigError: there is none.
    """
    model_type = _model_type(values)
    try:
        return registration.config_for(model_type)
    except KeyError:
        raise ConfigError(registration.no_family(model_type)) from None


def head_class(auto_class: str, values: Mapping[str, object]) -> ModelClass:
    """Finds the model class that serves an auto class for a configuration."""
    return class_for(auto_class, _model_type(values), _named_classes(values))


def class_for(auto_class: str, model_type: str, named: Iterable[str] = ()) -> ModelClass:
    """Finds the model class of a family that serves an auto class.

    Args:
        named: the classes that a checkpoint's configuration names: a class of yours that is
            registered for a family's own configuration serves those checkpoints alone.

    Raises:
        ConfigError: no such family, or none with this head.
    """
    try:
        return registration.model_for(auto_class, model_type, named)
    except KeyError as error:
        (names,) = error.args
    if not registration.is_known(model_type):
        raise ConfigError(
            f"{registration.no_family(model_type)}; add one with register_for_auto_class"
        )
    raise ConfigError(f"{model_type} has no class for {auto_class}; it has {', '.join(names)}")


def architecture(folder: str) -> ModelClass:
    """Finds the class that a folder's `config.json` names in `architectures`, or its bare model."""
    return named_class(read_json(config_path(folder)), folder)


def named_class(values: Mapping[str, object], where: str) -> ModelClass:
    """Finds the class that a configuration names in `architectures`, or its bare model.

    Args:
        where: the folder or file of the configuration, for errors.

    Raises:
        ConfigError: `architectures` is no list, or the family is not there.
    """
    names = values.get("architectures") or []
    if not isinstance(names, list | tuple):
        raise ConfigError(f"{where}: architectures must be a list, got {shown(names)}")
    for name in names:
        with contextlib.suppress(KeyError):
            return registration.model_class(str(name))
    bare = head_class("AutoModel", values)
    if names:
        unknown = (
            quoted(name) + registration.nearest(name, registration.model_names()) for name in names
        )
        warn(f"{where}: no class here is called {some(unknown)}; {bare.__name__} is taken")
    return bare


def _named_classes(values: Mapping[str, object]) -> list[str]:
    """Lists the names of classes under `architectures` and `auto_map`."""
    names, places = values.get("architectures"), values.get("auto_map")
    found = [*names] if isinstance(names, list | tuple) else []
    found += [*places.values()] if isinstance(places, Mapping) else []
    return [name for name in found if isinstance(name, str)]


def _model_type(values: Mapping[str, object]) -> str:
    model_type = values.get("model_type", "")
    if not isinstance(model_type, str):
        raise ConfigError(f"model_type of config.json must be a name, got {shown(model_type)}")
    return model_type
