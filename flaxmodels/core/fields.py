"""The fields of a model: checked and normalised when it is made, fixed afterwards."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
from flax import linen as nn

from .. import params as fp
from .. import sharding as fs
from ..blocks import IMPLEMENTATIONS, as_flag, as_remat, check_dtype, heads_are_even
from ..calls import keyword_table, keywords
from ..config.config import Config
from ..config.generation_config import GenerationConfig
from ..documents.json_values import ConfigError

_OF_A_LOAD = frozenset({"device_map", "max_memory", "offload_folder", "offload_buffers"})
_LINENS = ("parent", "name", "scope")


def wrap_constructor(cls: Any) -> None:
    """Wraps the constructor that linen made for a class: Transformers' keywords act, or raise with
    what to write instead, and fields are fixed once it has run."""
    init, names = cls.__init__, {*field_names(cls), "config", "parent", "name"}
    post_init = cls.__post_init__

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **fields: Any) -> None:
        fields = keywords.ours(fields, names, cls.__name__, cls.__name__)
        if odd := fields.keys() - names:
            raise _unknown(cls, odd)
        init(self, *args, **fields)
        object.__setattr__(self, "_fixed", True)

    cls.__init__ = __init__
    if "__post_init__" not in vars(cls) and hasattr(post_init, "__wrapped__"):
        return  # inherited, and wrapped there: of a mixin's, too, the order of bases decides

    # Linen runs it again, and sets fields, where a module adopts the model as a submodule.
    @functools.wraps(post_init)
    def __post_init__(self: nn.Module) -> None:
        fixed = vars(self).pop("_fixed", False)
        post_init(self)
        if fixed:
            object.__setattr__(self, "_fixed", True)

    cls.__post_init__ = __post_init__


def wrap_call(cls: Any) -> None:
    """Wraps the `__call__` of a class, so that a model that is called itself says what runs it."""
    if "__call__" not in vars(cls):
        return
    call = cls.__call__

    @functools.wraps(call)
    def __call__(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.scope is None:
            raise TypeError(
                f"{type(self).__name__} holds no params, and is not called itself: "
                "model.apply({'params': params}, input_ids, ...) runs it"
            )
        return call(self, *args, **kwargs)

    cls.__call__ = __call__


def normalise(model: nn.Module) -> None:
    """Checks a new model's fields, and replaces each by its normal form.

    Raises:
        TypeError: a configuration of another family, or a field of another type.
        ConfigError: `scan_layers` where layers differ.
        ValueError: no such remat policy or attention, a dtype that no layer computes in, a
            `defer_logits` that is no number of tokens, tags that are no words.
    """
    cls = type(model)
    check_config(cls, model.config)
    model.dtype = fp.parse_dtype(model.dtype)  # jnp.bfloat16 and its dtype hash differently
    check_dtype(model.dtype)
    model.rules = fs.as_rules(model.rules)
    model.uneven = fs.as_uneven(model.uneven)
    model.remat = as_remat(model.remat)
    model.attn_implementation = keywords.attention(model.attn_implementation)
    if model.attn_implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"{cls.__name__}: attn_implementation is {model.attn_implementation!r}; expected one "
            f"of {', '.join(IMPLEMENTATIONS)}"
        )
    for name in ("scan_layers", "embed_tap"):
        setattr(model, name, as_flag(f"{cls.__name__}: {name}", getattr(model, name)))
    model.model_tags = as_tags(model.model_tags)
    if not isinstance(model.generation_config, GenerationConfig | None):
        raise TypeError(
            f"{cls.__name__}: generation_config is a {type(model.generation_config).__name__}; "
            "expected a fm.GenerationConfig"
        )
    if isinstance(model.defer_logits, np.bool_ | np.integer):
        model.defer_logits = model.defer_logits.item()
    if not isinstance(model.defer_logits, int) or model.defer_logits < 0:
        raise ValueError(
            f"{cls.__name__}: defer_logits is {model.defer_logits!r}; expected True, False, or how "
            "many tokens a loss makes logits of at a time"
        )
    if model.scan_layers and not heads_are_even(model.config):
        raise ConfigError(
            f"{cls.__name__}: scan_layers needs as many heads in every layer, and "
            f"config.pruned_heads is {dict(model.config.pruned_heads)}; use scan_layers=False"
        )


def as_tags(tags: str | Iterable[str]) -> tuple[str, ...]:
    """Returns the tags of a model card, each once.

    Raises:
        ValueError: a tag that is no text, or empty.
    """
    if not isinstance(tags, Iterable):
        raise ValueError(f"tags must be words, got {tags!r:.80}")
    words = [tags] if isinstance(tags, str) else [*tags]
    if odd := [tag for tag in words if not isinstance(tag, str) or not tag.strip()]:
        raise ValueError(f"tags must be words, got {', '.join(map(repr, odd))}")
    return tuple(dict.fromkeys(words))


def check_assignment(model: nn.Module, name: str) -> None:
    """Raises `dataclasses.FrozenInstanceError` for an attribute set from outside: a model is a
    value. Linen's own attributes, and those that `setup` makes, may be set."""
    if name.startswith("_") or name in _LINENS or "_fixed" not in vars(model):
        return
    if model._state.in_setup and name not in field_names(type(model)):
        return
    cls = type(model).__name__
    if name in field_names(type(model)) or name == "config":
        use = f"model = model.clone({name}=...) is another one"
    elif name == "params":
        use = "params are a value of their own: model.apply({'params': params}, ...)"
    else:
        use = "a class of your own has a field for it"
    raise dataclasses.FrozenInstanceError(f"{cls}.{name} cannot be assigned: {use}")


def field_names(cls: Any) -> tuple[str, ...]:
    """Returns the fields of a model class that a caller may give, in order; `dtype` is first."""
    given = ("config", "parent", "name")
    return tuple(field.name for field in dataclasses.fields(cls) if field.name not in given)


def config_names(cls: type[Config]) -> frozenset[str]:
    """Returns the names that `replace` of a configuration takes, or refuses with a reason."""
    return cls.names().union(cls.unsupported, keyword_table.NOTES)


def check_config(cls: Any, config: Config) -> None:
    """Raises `TypeError` unless `config` is of the class that the model class reads."""
    if not isinstance(config, cls.config_class):
        kind = cls.config_class.__name__
        reads = {dict: "from_dict(values)", str: "from_pretrained(name)"}.get(type(config))
        hint = f": fm.{kind}.{reads} makes one" if reads else ""
        raise TypeError(f"{cls.__name__} takes a {kind}, got {type(config).__name__}{hint}")


def _unknown(cls: Any, names: set[str]) -> TypeError:
    configured = sorted(names & config_names(cls.config_class))
    if configured:
        kind = cls.config_class.__name__
        line = ", ".join(f"{name}=..." for name in configured)
        return TypeError(
            f"{cls.__name__} does not take {', '.join(configured)}: give it to the configuration, "
            f"{cls.__name__}(fm.{kind}({line}))"
        )
    if "param_dtype" in names:
        return TypeError(
            f"{cls.__name__} does not take param_dtype: params have it, "
            "model.init_params(key, param_dtype=...) or from_pretrained(name, param_dtype=...)"
        )
    if of_load := sorted(names & _OF_A_LOAD):
        name = of_load[0]
        return TypeError(
            f"{cls.__name__} does not take {name}=: it belongs to a load, "
            f"{cls.__name__}.from_pretrained(name, {name}=...)"
        )
    return keywords.unknown(names, cls.__name__, {"after config": field_names(cls)})
