"""Auto classes: from a `config.json` to the class that runs it, imported when it is asked for."""

import contextlib
import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any

from .base import PretrainedModel
from .config import CONFIG_NAME, Config, ConfigError, read_json
from .hub import Found, resolve
from .loading import configuration, locate, renamed
from .params import LoadPlan
from .params.errors import quoted, some
from .planning import build, plan_load

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

_ENDINGS = {
    "AutoModel": ("Model",),
    "AutoModelForCausalLM": ("ForCausalLM", "LMHeadModel"),
    "AutoModelForPreTraining": ("ForPreTraining", "ForCausalLM", "LMHeadModel"),
} | {
    f"AutoModelFor{head}": (f"For{head}",)
    for head in (
        "MaskedLM Seq2SeqLM SequenceClassification TokenClassification QuestionAnswering "
        "MultipleChoice NextSentencePrediction ImageClassification SpeechSeq2Seq CTC Vision2Seq"
    ).split()
}
_PLACES = (
    "subfolder revision token cache_dir local_files_only force_download proxies progress"
).split()
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
    if auto_class not in _ENDINGS:
        raise ValueError(f"no auto class {auto_class!r}; there are {', '.join(_ENDINGS)}")

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
        changes = renamed(changes)
        where = {name: changes.pop(name) for name in _PLACES if name in changes}
        found = resolve(name_or_path, **where)
        with found.noting():
            values = _config_values(found.folder)
        return _config_class(values).from_dict(values).replace(**changes)


class _Auto:
    """An auto class: `from_pretrained` and `from_config` of the class that fits."""

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
        for ending in _ENDINGS[auto]:
            for name in names:
                if name.endswith(ending):
                    return family_class(name)
        raise ConfigError(f"{model_type} has no class for {auto}; it has {', '.join(names[1:])}")

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike | Found, *model_args: Any, **kwargs: Any
    ) -> Any:
        """`(model, params)`; arguments as `PretrainedModel.from_pretrained`."""
        kwargs = renamed(kwargs)
        where = {name: kwargs[name] for name in (*_PLACES, "mesh", "shardings") if name in kwargs}
        config = kwargs.get("config")
        if isinstance(config, Config):
            model_type = config.model_type
        elif config is None:
            name_or_path = found = locate(name_or_path, **where)
            with found.noting():
                model_type = _model_type(_config_values(found.folder))
        else:
            kwargs["config"] = path = configuration(config, **where)
            model_type = _model_type(_config_values(path))
        return cls.class_for(model_type).from_pretrained(name_or_path, *model_args, **kwargs)

    @classmethod
    def from_config(cls, config: Config, **fields: Any) -> PretrainedModel:
        """The model of a configuration, with the given module fields."""
        return cls.class_for(config.model_type)(config, **fields)


AUTO_CLASSES: dict[str, type[_Auto]] = {
    name: type(name, (_Auto,), {"__doc__": _Auto.__doc__, "__module__": __name__})
    for name in _ENDINGS
}


def load_plan(
    name_or_path: str | os.PathLike | Found,
    *,
    model_class: type[PretrainedModel] | None = None,
    config: Config | str | os.PathLike | None = None,
    fields: dict[str, Any] | None = None,
    how: dict[str, Any] | None = None,
    **kwargs: Any,
) -> LoadPlan:
    """What loading a checkpoint would read and where it would go, without reading a weight.

    Args:
        model_class: the class that `architectures` of `config.json` names, or `AutoModel`'s, if
            None.
        fields: fields of the model and its configuration, as `from_pretrained` takes them.
        how: which weights, as `fp.open_checkpoint` takes it.
        **kwargs: as `flaxmodels.planning.plan_load`: param_dtype, mesh, max_host_memory, ...
    """
    found = resolve(name_or_path)
    if model_class is None:
        model_class = architecture(found.folder)
    model = build(model_class, found.folder, config, **(fields or {}))
    return plan_load(model, found.open(**(how or {})), **kwargs)


def architecture(folder: str) -> type[PretrainedModel]:
    """The class that a folder's `config.json` names in `architectures`, or its bare model."""
    values = _config_values(folder)
    names = values.get("architectures") or []
    if not isinstance(names, list):
        raise ConfigError(f"{folder}: architectures must be a list, got {names!r:.200}")
    for name in names:
        with contextlib.suppress(KeyError):
            return family_class(str(name))
    bare = AUTO_CLASSES["AutoModel"].class_for(_model_type(values))
    if names:
        warnings.warn(
            f"{folder}: no class here is called {some(map(quoted, names))}; {bare.__name__} is "
            "taken",
            stacklevel=2,
        )
    return bare


def _config_values(folder: str) -> dict[str, Any]:
    is_file = os.path.isfile(folder)
    return read_json(folder if is_file else os.path.join(folder, CONFIG_NAME))


def _model_type(values: dict[str, Any]) -> str:
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
