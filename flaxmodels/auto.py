"""Auto classes: from a `config.json` to the class that runs it, imported when it is asked for."""

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Unpack, overload

import jax

from . import callers, keywords
from .arguments import documented
from .base import PretrainedModel
from .config import CONFIG_NAME, Config
from .hub import Found, resolve
from .loading import LoadingInfo, configuration, load, locate, named, planned, requested
from .options import Options
from .params import LoadPlan, open_checkpoint, unflatten
from .params.errors import quoted, some
from .planning import build, plan_load
from .request import PLACE, Request
from .values import ConfigError, read_json

FAMILIES: dict[str, tuple[str, ...]] = {
    "bert": (
        "BertConfig",
        "BertModel",
        "BertForMaskedLM",
        "BertForPreTraining",
        "BertForNextSentencePrediction",
        "BertForSequenceClassification",
        "BertForTokenClassification",
        "BertForQuestionAnswering",
        "BertForMultipleChoice",
    ),
    "gpt2": (
        "GPT2Config",
        "GPT2Model",
        "GPT2LMHeadModel",
        "GPT2ForSequenceClassification",
        "GPT2ForTokenClassification",
        "GPT2ForQuestionAnswering",
        "GPT2DoubleHeadsModel",
    ),
    "llama": (
        "LlamaConfig",
        "LlamaModel",
        "LlamaForCausalLM",
        "LlamaForSequenceClassification",
        "LlamaForTokenClassification",
        "LlamaForQuestionAnswering",
    ),
}
"""model_type = module in `families/` -> its public classes: the configuration, the bare model,
the others. The end of a name says which auto classes it serves; the first that fits does."""

_registered: dict[tuple[str, str], type[PretrainedModel]] = {}


def family_class(name: str) -> Any:
    """The class of a family by its name, such as "BertForMaskedLM"; KeyError if there is none."""
    for module, names in FAMILIES.items():
        if name in names:
            return getattr(importlib.import_module(f".families.{module}", __package__), name)
    raise KeyError(name)


def register_for_auto_class(
    auto_class: str = "AutoModel",
) -> Callable[[type[PretrainedModel]], type[PretrainedModel]]:
    """Decorator: lets an auto class find a model class of your own by its config's `model_type`.

    Nothing is ever found by running code out of a repository.

    Raises:
        ValueError: no such auto class, or a config class without a `model_type`.
    """
    auto_class = auto_class.removeprefix("Flax")
    if auto_class not in AUTO_CLASSES:
        raise ValueError(f"no auto class {auto_class!r}; there are {', '.join(AUTO_CLASSES)}")

    def register(cls: type[PretrainedModel]) -> type[PretrainedModel]:
        model_type = cls.config_class.model_type
        if not model_type:
            raise ValueError(f"{cls.__name__}.config_class has no model_type to be found by")
        _registered[auto_class, model_type] = cls
        return cls

    return register


class AutoConfig:
    """`from_pretrained` -> the configuration of whatever family `config.json` names."""

    @staticmethod
    def from_pretrained(name_or_path: str | os.PathLike, **changes: Any) -> Config:
        """Reads `config.json` of a folder or repository; `changes` override fields, but for what
        says where it is (`flaxmodels.hub.resolve`): revision, token, cache_dir, ...

        Raises:
            ConfigError: a family that is not there.
        """
        changes = keywords.placed(changes, "AutoConfig.from_pretrained")
        where = {name: changes.pop(name) for name in PLACE if name in changes}
        found = resolve(name_or_path, **where)
        with found.noting():
            values = _config_values(found.folder)
        return _config_class(values).from_dict(values).replace(**changes)


class _Auto:
    """An auto class: `from_pretrained` and `from_config` of the class that fits."""

    endings: ClassVar[tuple[str, ...]] = ()
    """How the names of the classes end that serve it; the first of a family that fits does."""

    @classmethod
    def class_for(cls, model_type: str) -> type[PretrainedModel]:
        """The model class of a family for this head.

        Raises:
            ConfigError: no such family, or none with this head.
        """
        auto = cls.__name__
        if (auto, model_type) in _registered:
            return _registered[auto, model_type]
        names = FAMILIES.get(model_type)
        if names is None:
            known = sorted({*FAMILIES, *(kind for _, kind in _registered)})
            raise ConfigError(
                f"no family for model_type {model_type!r}; there are {', '.join(known)}; add one "
                "with register_for_auto_class"
            )
        for ending in cls.endings:
            for name in names:
                if name.endswith(ending):
                    return family_class(name)
        raise ConfigError(f"{model_type} has no class for {auto}; it has {', '.join(names[1:])}")

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike | Found | None = None,
        *model_args: Any,
        output_loading_info: Literal[True],
        **options: Unpack[Options],
    ) -> tuple[PretrainedModel, Any, LoadingInfo]: ...

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike | Found | None = None,
        *model_args: Any,
        output_loading_info: Literal[False] = False,
        **options: Unpack[Options],
    ) -> tuple[PretrainedModel, Any]: ...

    @classmethod
    @documented(load, Request, "    The class is that of the family which `config.json` names.")
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        call = f"{cls.__name__}.from_pretrained"
        options = keywords.placed(options, call)
        name_or_path, args = named(call, args, options)
        where = {name: options[name] for name in PLACE if options.get(name) is not None}
        config = options.get("config")
        if isinstance(config, Config):
            model_type = config.model_type
        elif config is None:
            if name_or_path is None:
                raise TypeError(f"{call} needs a name or path, or config and state_dict")
            name_or_path = found = locate(name_or_path, **where)
            with found.noting():
                model_type = _model_type(_config_values(found.folder))
        else:
            options["config"] = path = configuration(config, **where)
            model_type = _model_type(_config_values(path))
        return cls.class_for(model_type).from_pretrained(name_or_path, *args, **options)

    @classmethod
    def from_config(cls, config: Config, **fields: Any) -> PretrainedModel:
        """The model of a configuration, with the given module fields."""
        return cls.class_for(config.model_type)(config, **fields)


class AutoModel(_Auto):
    """The bare model of a family: hidden states."""

    endings = ("Model",)


class AutoModelForCausalLM(_Auto):
    """Models that predict the next token."""

    endings = ("ForCausalLM", "LMHeadModel")


class AutoModelForPreTraining(_Auto):
    """Models with the heads that a family was pretrained with."""

    endings = ("ForPreTraining", "ForCausalLM", "LMHeadModel")


class AutoModelForMaskedLM(_Auto):
    """Models that fill in masked tokens."""

    endings = ("ForMaskedLM",)


class AutoModelForSeq2SeqLM(_Auto):
    """Models from sequence to sequence."""

    endings = ("ForSeq2SeqLM",)


class AutoModelForSequenceClassification(_Auto):
    """Models that label a sequence."""

    endings = ("ForSequenceClassification",)


class AutoModelForTokenClassification(_Auto):
    """Models that label every token."""

    endings = ("ForTokenClassification",)


class AutoModelForQuestionAnswering(_Auto):
    """Models that find the answer's span."""

    endings = ("ForQuestionAnswering",)


class AutoModelForMultipleChoice(_Auto):
    """Models that choose among continuations."""

    endings = ("ForMultipleChoice",)


class AutoModelForNextSentencePrediction(_Auto):
    """Models that tell whether one sentence follows another."""

    endings = ("ForNextSentencePrediction",)


class AutoModelForImageClassification(_Auto):
    """Models that label an image."""

    endings = ("ForImageClassification",)


class AutoModelForSpeechSeq2Seq(_Auto):
    """Models from speech to text."""

    endings = ("ForSpeechSeq2Seq",)


class AutoModelForCTC(_Auto):
    """Models with a head for connectionist temporal classification."""

    endings = ("ForCTC",)


class AutoModelForVision2Seq(_Auto):
    """Models from images to text."""

    endings = ("ForVision2Seq",)


AUTO_CLASSES: dict[str, type[_Auto]] = {cls.__name__: cls for cls in _Auto.__subclasses__()}


def load_plan(
    name_or_path: str | os.PathLike | Found | None = None,
    *model_args: Any,
    model_class: type[PretrainedModel] | None = None,
    **options: Unpack[Options],
) -> LoadPlan:
    """What a load would read and where it would go, without reading a weight.

    Args:
        name_or_path: and what follows, as `from_pretrained` takes them.
        model_class: the class that `architectures` of `config.json` names, or `AutoModel`'s, if
            None.
    """
    call = "load_plan"
    given = keywords.placed(options, call)
    given_args = model_args if name_or_path is None else (name_or_path, *model_args)
    name, args = named(call, given_args, given)
    if model_class is None:
        name, model_class = _described(name, given)
    request = requested(model_class, call, args, given)
    if request.verify:
        raise TypeError(f"{call} reads no weights, and verify all of them; give it to the load")
    return planned(model_class, name, request).plan


def _described(name: Any, options: dict[str, Any]) -> tuple[Any, type[PretrainedModel]]:
    """(the checkpoint, found; the class that its configuration, or the given one, names)."""
    config = options.get("config")
    where = {name: options[name] for name in PLACE if options.get(name) is not None}
    if isinstance(config, Config):
        return name, _architecture(config.to_dict(), type(config).__name__)
    if config is not None:
        options["config"] = path = configuration(config, **where)
        return name, architecture(path)
    if name is None:
        raise TypeError("load_plan needs a name or path, or config and state_dict")
    found = locate(name, **where)
    return found, architecture(found.folder)


def saved(folder: str, variant: str | None = None) -> tuple[PretrainedModel, Any]:
    """The model of a saved checkpoint and its abstract params; reads no weight."""
    model = build(architecture(folder), folder)
    plan = plan_load(model, open_checkpoint(folder, variant=variant))
    leaves = {leaf.path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in plan.leaves}
    return model, unflatten(leaves)


def architecture(folder: str) -> type[PretrainedModel]:
    """The class that a folder's `config.json` names in `architectures`, or its bare model."""
    return _architecture(_config_values(folder), folder)


def _architecture(values: Mapping[str, Any], where: str) -> type[PretrainedModel]:
    names = values.get("architectures") or []
    if not isinstance(names, list | tuple):
        raise ConfigError(f"{where}: architectures must be a list, got {names!r:.200}")
    for name in names:
        with contextlib.suppress(KeyError):
            return model_class(str(name))
    bare = AutoModel.class_for(_model_type(values))
    if names:
        callers.warn(
            f"{where}: no class here is called {some(map(quoted, names))}; {bare.__name__} is taken"
        )
    return bare


def model_class(name: str) -> type[PretrainedModel]:
    """The model class of that name, of a family or registered; KeyError if there is none."""
    for cls in _registered.values():
        if cls.__name__ == name:
            return cls
    plain = name.removeprefix("Flax")
    if any(plain in names[1:] for names in FAMILIES.values()):
        return family_class(plain)
    raise KeyError(name)


def _config_values(folder: str) -> dict[str, Any]:
    is_file = os.path.isfile(folder)
    return read_json(folder if is_file else os.path.join(folder, CONFIG_NAME))


def _model_type(values: Mapping[str, Any]) -> str:
    model_type = values.get("model_type", "")
    if not isinstance(model_type, str):
        raise ConfigError(f"model_type of config.json must be a name, got {model_type!r:.200}")
    return model_type


def _config_class(values: dict[str, Any]) -> type[Config]:
    model_type = _model_type(values)
    if model_type in FAMILIES:
        return family_class(FAMILIES[model_type][0])
    for (_, kind), cls in _registered.items():
        if kind == model_type:
            return cls.config_class
    raise ConfigError(
        f"no family for model_type {model_type!r}; there are {', '.join(sorted(FAMILIES))}"
    )
