"""Two models as the halves of one: their tensors' names; and their checkpoints, whose keywords are
told apart."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ... import params as fp
from ...checkpoints.classes import head_class
from ...checkpoints.load import initialized, load, warn_of_new
from ...checkpoints.loading_info import LoadingInfo
from ...checkpoints.request import NameOrPath, Request
from ...config.config import Config
from ...core.fields import field_names
from ...core.model import Model

HALVES = {"encoder": "AutoModel", "decoder": "AutoModelForCausalLM"}
"""{half: the auto class that finds its class}."""
_OF_ONE = ("config", "state_dict", "key_mapping")
_OF_THE_WHOLE = ("generation_config", "model_tags", "origin")

Given = dict[str, Any]


class Keywords(NamedTuple):
    """The keywords of `from_encoder_decoder_pretrained`, told apart.

    Attributes:
        config: fields of the configuration of the whole.
        fields: fields of the model, which the halves have too.
        both: what says how either is loaded.
        of: {half: what is said of it alone}.
    """

    config: Given
    fields: Given
    both: Given
    of: dict[str, Given]


def told_apart(call: str, cls: type[Model], given: Mapping[str, object]) -> Keywords:
    """Tells keywords apart by their prefixes, `encoder_` and `decoder_`. A field of the whole is
    one whatever it begins with, as `decoder_start_token_id`.

    Raises:
        TypeError: one of the whole with a prefix, or of one half without.
    """
    names, fields = cls.config_class.names(), field_names(cls)
    told = Keywords({}, {}, {}, {half: {} for half in HALVES})
    for name, value in given.items():
        half, _, rest = name.partition("_")
        if name in names:
            told.config[name] = value
        elif half not in HALVES:
            if name in _OF_ONE:
                raise TypeError(f"{call}: give encoder_{name} or decoder_{name}, not {name}")
            (told.fields if name in fields else told.both)[name] = value
        elif rest == "model":
            raise TypeError(
                f"{call} reads checkpoints; of two models, {cls.config_class.__name__}."
                "from_encoder_decoder_configs(encoder.config, decoder.config) is the configuration"
                " of the whole, and {'encoder': ..., 'decoder': ...} are its params"
            )
        elif rest in fields:
            raise TypeError(f"{call}: give {rest}, not {name}: both halves have the model's")
        else:
            told.of[half][rest] = value
    return told


def load_half(
    call: str, half: str, name: NameOrPath, told: Keywords, adapt: Callable[[Config], Config]
) -> tuple[Model, fp.Params, LoadingInfo]:
    """Loads the encoder or the decoder as a model of its own.

    Args:
        adapt: makes of the checkpoint's configuration that of the half.
    """
    both, fields = dict(told.both), dict(told.fields)
    if isinstance(shardings := both.get("shardings"), Mapping):
        both["shardings"] = shardings[half]
    fields = {name: value for name, value in fields.items() if name not in _OF_THE_WHOLE}
    options = {**both, **fields, **told.of[half], "output_loading_info": True}
    request = dataclasses.replace(Request.of(call, name, (), options), adapt=adapt)
    return load(request, lambda values, _: head_class(HALVES[half], values))  # pyright: ignore


def completed(
    call: str, model: Model, params: fp.Params, told: Keywords, loaded: Collection[LoadingInfo]
) -> fp.Params:
    """Draws what neither half has, and warns of it."""
    template = fp.flatten(model.abstract_params())
    missing = [path for path in template if path not in fp.flatten(params)]
    if not missing:
        return params
    warn_of_new(type(model), "of either half", missing)
    dtypes = [dtype for info in loaded for dtype in info.plan.dtypes.values()]
    request = Request.of(call, None, (), told.both)
    return fp.merge(params, initialized(model, missing, request, dtypes))


def naming_of(model: Model) -> fp.Naming:
    """Returns the naming of two models in one."""
    halves = [_of_its_own(half, model.half(half, parent=None).naming) for half in HALVES]
    fields = [field.name for field in dataclasses.fields(fp.Naming)]
    both = {name: (*getattr(halves[0], name), *getattr(halves[1], name)) for name in fields}
    return fp.Naming(**{name: tuple(dict.fromkeys(each)) for name, each in both.items()})


def _of_its_own(half: str, naming: fp.Naming) -> fp.Naming:
    """Returns a half's naming, by which its own tensors alone are ignored: a decoder that was part
    of an encoder-decoder ignores that encoder."""
    ignored = tuple(rf"^(?={half}\.).*?(?:{pattern})" for pattern in naming.ignored)
    return dataclasses.replace(naming, ignored=ignored)
