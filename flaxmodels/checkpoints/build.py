"""Building: from a configuration to its model, without weights."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from ..blocks import check_attention
from ..calls import keywords
from ..config.config import Config
from ..config.generation_config import GenerationConfig
from ..core.fields import check_config, config_names, field_names
from ..core.model import Model
from ..documents.json_files import naming, read_json
from ..documents.json_values import JsonObject
from ..hub import name_of
from .options import LOAD

M = TypeVar("M", bound=Model)
Choose = Callable[[Mapping[str, Any], str], type[M]]
"""Chooses a model class by the content of a configuration; the text is where it is, for errors."""


def described(
    choose: Choose[M], config: Config | str, values: JsonObject | None = None
) -> tuple[type[M], Config]:
    """Returns (model class, configuration) of a configuration, or of the path of a `config.json`,
    which is read once.

    Args:
        values: what `config.json` would say, of a file that says it otherwise; `config` is its
            path then.

    Raises:
        ConfigError: a configuration that cannot be read or honoured; with its path.
    """
    if isinstance(config, Config):
        cls = choose(config.to_dict(), type(config).__name__)
        check_config(cls, config)
        return cls, config
    with naming(config):
        values = read_json(config) if values is None else values
        cls = choose(values, config)
        return cls, cls.config_class.from_dict(values, path=config)


def build(
    cls: type[M],
    config: Config,
    given: Mapping[str, Any],
    folder: str = "",
    *,
    call: str = "",
    config_is_given: bool = False,
) -> M:
    """Builds a model of a class, its configuration and other fields.

    Args:
        given: fields of the model, and, unless the caller gave `config`, of the configuration.
        folder: of the checkpoint: of its `generation_config.json`, if it has one, and its origin.
        call: "LlamaForCausalLM.from_pretrained", for errors.
        config_is_given: whether the caller gave `config`.

    Raises:
        TypeError: what is neither a field of the model nor of its configuration.
    """
    names = field_names(cls)
    fields = {name: value for name, value in given.items() if name in names}
    others = {name: value for name, value in given.items() if name not in names}
    if others and not config_is_given:
        settable = config_names(type(config))
        config = config.replace(**{n: others.pop(n) for n in list(others) if n in settable})
    if others:
        raise _unknown(call or cls.__name__, cls, others, type(config), config_is_given)
    if "attn_implementation" in fields:
        check_attention(keywords.attention(fields["attn_implementation"]))
    if cls.can_generate():
        fields.setdefault("generation_config", GenerationConfig.from_pretrained(folder, config))
    if folder:
        fields.setdefault("origin", name_of(folder))
    return cls(config, **fields)


def _unknown(
    call: str, cls: type[Model], names: Collection[str], config_class: type[Config], given: bool
) -> TypeError:
    """Makes the error for what neither a load, nor a model, nor its configuration takes."""
    kind = config_class.__name__
    own = {field.name for field in dataclasses.fields(config_class)} - {"extra"}
    if given and (set_there := sorted(own.intersection(names))):
        line = ", ".join(f"{name}=..." for name in set_there)
        return TypeError(
            f"{call} does not take {', '.join(set_there)} beside config=, a {kind}; give "
            f"config=config.replace({line})"
        )
    takes = {
        "of a load": LOAD,
        f"of a {cls.__name__}": field_names(cls),
        f"of a {kind}": () if given else own,
    }
    return keywords.unknown(names, call, {what: group for what, group in takes.items() if group})
