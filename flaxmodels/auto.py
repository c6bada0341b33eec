"""Auto classes: from a `config.json` to the class that runs it, imported when it is asked for."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Unpack, overload

import jax

from . import registry
from .calls import keywords
from .calls.arguments import documented
from .checkpoints.load import LoadingInfo, configuration, load, locate, named, planned, requested
from .checkpoints.options import LOAD, ModelFields, Options
from .checkpoints.plan import build, plan_load
from .checkpoints.request import PLACE, Request
from .config.config import Config, find_config
from .documents import config_keys
from .documents.json_files import config_path, naming, read_json
from .documents.json_values import ConfigError, shown
from .hub import HubOptions, Location
from .models.base import PretrainedModel
from .params import open_checkpoint, unflatten
from .params.checkpoint.plan import LoadPlan
from .params.checkpoint.saveable import check_variant
from .params.errors import quoted, some, warn


class AutoConfig:
    """`from_pretrained` -> the configuration of whatever family `config.json` names."""

    @staticmethod
    def from_pretrained(
        name_or_path: str | os.PathLike | Location | None = None, **options: Any
    ) -> Config:
        """Reads `config.json` of a folder or repository.

        Args:
            name_or_path: as a model's `from_pretrained` takes it.
            **options: fields of the configuration, which they override, and what says where it is:
                revision, token, cache_dir, ...

        Raises:
            ConfigError: a family that is not there.
            TypeError: a keyword of a model's load, or one that nothing takes.
        """
        call = "AutoConfig.from_pretrained"
        given = keywords.placed(options, call)
        name, _ = named(call, () if name_or_path is None else (name_or_path,), given)
        hub_options = HubOptions.take_from(given)
        of_models = {*LOAD, *ModelFields.__annotations__} - config_keys.INSTEAD.keys()
        if odd := sorted(given.keys() & of_models):
            raise TypeError(
                f"{call} does not take {', '.join(odd)}: a configuration has none; give it to "
                "from_pretrained of a model"
            )
        found, path = find_config(name, hub_options)
        with found.noting(), naming(path):
            values = read_json(path)
            config = _config_class(values).from_dict(values, path=path)
        return config.replace(**given)

    @staticmethod
    def register(model_type: str, config: type[Config], exist_ok: bool = False) -> None:
        """Lets configurations of a kind be read by a class of your own.

        Raises:
            ValueError: the class's `model_type` is another, or is taken.
        """
        registry.add_config(model_type, config, exist_ok=exist_ok)


class _Auto:
    """An auto class: `from_pretrained` and `from_config` of the class that fits."""

    @classmethod
    def class_for(cls, model_type: str, named: Iterable[str] = ()) -> type[PretrainedModel]:
        """The model class of a family for this head.

        Args:
            named: the names of classes that a checkpoint's configuration gives: how it is told that
                a class of yours, registered for a family's own configuration, is meant.

        Raises:
            ConfigError: no such family, or none with this head.
        """
        try:
            return registry.model_for(cls.__name__, model_type, named)
        except KeyError as error:
            (names,) = error.args
        if model_type not in registry.kinds():
            raise ConfigError(
                f"no family for model_type {quoted(model_type)}; there are {', '.join(names)}; add "
                "one with register_for_auto_class"
            )
        raise ConfigError(
            f"{model_type} has no class for {cls.__name__}; it has {', '.join(names)}"
        )

    @classmethod
    def register(
        cls, config_class: type[Config], model_class: type[PretrainedModel], exist_ok: bool = False
    ) -> None:
        """Lets this auto class find a model class of your own by its configuration's class.

        Raises:
            ValueError: the model class reads another configuration, or a family has one for it.
        """
        kind = config_class.model_type
        if model_class.config_class is not config_class:
            raise ValueError(
                f"{model_class.__name__} reads a {model_class.config_class.__name__}, not a "
                f"{config_class.__name__}"
            )
        if kind in registry.FAMILIES and not exist_ok:
            raise ValueError(
                f"{cls.class_for(kind).__name__} serves {config_class.__name__}; give exist_ok=True"
                " to take its place, or your configuration a model_type of its own"
            )
        registry.add_model(cls.__name__, model_class, instead=exist_ok)

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike | Location | None = None,
        *model_args: Any,
        output_loading_info: Literal[True],
        **options: Unpack[Options],
    ) -> tuple[PretrainedModel, Any, LoadingInfo]: ...

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike | Location | None = None,
        *model_args: Any,
        output_loading_info: Literal[False] = False,
        **options: Unpack[Options],
    ) -> tuple[PretrainedModel, Any]: ...

    @classmethod
    @documented(load, Request, "    The class is that of the family which `config.json` names.")
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        call = f"{cls.__name__}.from_pretrained"
        options = keywords.placed(options, call)
        check_variant(options.get("variant"))  # before the configuration is looked for
        name_or_path, args = named(call, args, options)
        where = {name: options[name] for name in PLACE if options.get(name) is not None}
        config = options.get("config")
        if isinstance(config, Config):
            model_class = cls._class_of(config.to_dict())
        elif config is None:
            if name_or_path is None:
                raise TypeError(f"{call} needs a name or path, or config and state_dict")
            name_or_path = found = locate(name_or_path, **where)
            with found.noting():
                model_class = cls._class_at(found.folder)
        else:
            options["config"] = path = configuration(config, **where)
            model_class = cls._class_at(path)
        return model_class.from_pretrained(name_or_path, *args, **options)

    @classmethod
    def _class_at(cls, place: str) -> type[PretrainedModel]:
        """The class for what the configuration in a folder, or in a file, names."""
        with naming(config_path(place)):
            return cls._class_of(_config_values(place))

    @classmethod
    def _class_of(cls, values: Mapping[str, Any]) -> type[PretrainedModel]:
        return cls.class_for(_model_type(values), _named_classes(values))

    @classmethod
    def from_config(cls, config: Config, **fields: Any) -> PretrainedModel:
        """The model of a configuration, with the given module fields; no params."""
        found = cls.class_for(config.model_type, _named_classes(config.to_dict()))
        return found.from_config(config, **fields)


class AutoModel(_Auto):
    """The bare model of a family: hidden states."""


class AutoModelForCausalLM(_Auto):
    """Models that predict the next token."""


class AutoModelForPreTraining(_Auto):
    """Models with the heads that a family was pretrained with."""


class AutoModelForMaskedLM(_Auto):
    """Models that fill in masked tokens."""


class AutoModelForSeq2SeqLM(_Auto):
    """Models from sequence to sequence."""


class AutoModelForSequenceClassification(_Auto):
    """Models that label a sequence."""


class AutoModelForTokenClassification(_Auto):
    """Models that label every token."""


class AutoModelForQuestionAnswering(_Auto):
    """Models that find the answer's span."""


class AutoModelForMultipleChoice(_Auto):
    """Models that choose among continuations."""


class AutoModelForNextSentencePrediction(_Auto):
    """Models that tell whether one sentence follows another."""


class AutoModelForImageClassification(_Auto):
    """Models that label an image."""


class AutoModelForSpeechSeq2Seq(_Auto):
    """Models from speech to text."""


class AutoModelForCTC(_Auto):
    """Models with a head for connectionist temporal classification."""


class AutoModelForVision2Seq(_Auto):
    """Models from images to text."""


AUTO_CLASSES: dict[str, type[_Auto]] = {cls.__name__: cls for cls in _Auto.__subclasses__()}


def load_plan(
    name_or_path: str | os.PathLike | Location | None = None,
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
    check_variant(given.get("variant"))
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
        raise ConfigError(f"{where}: architectures must be a list, got {shown(names)}")
    for name in names:
        with contextlib.suppress(KeyError):
            return registry.model_class(str(name))
    bare = AutoModel.class_for(_model_type(values), _named_classes(values))
    if names:
        warn(
            f"{where}: no class here is called {some(map(quoted, names))}; {bare.__name__} is taken"
        )
    return bare


def _named_classes(values: Mapping[str, Any]) -> list[str]:
    """The names of classes that a configuration gives, under `architectures` and `auto_map`."""
    names, places = values.get("architectures"), values.get("auto_map")
    found = [*names] if isinstance(names, list | tuple) else []
    found += [*places.values()] if isinstance(places, Mapping) else []
    return [name for name in found if isinstance(name, str)]


def _config_values(folder: str) -> dict[str, Any]:
    return read_json(config_path(folder))


def _model_type(values: Mapping[str, Any]) -> str:
    model_type = values.get("model_type", "")
    if not isinstance(model_type, str):
        raise ConfigError(f"model_type of config.json must be a name, got {shown(model_type)}")
    return model_type


def _config_class(values: dict[str, Any]) -> type[Config]:
    model_type = _model_type(values)
    try:
        return registry.config_for(model_type)
    except KeyError:
        raise ConfigError(
            f"no family for model_type {quoted(model_type)}; there are "
            f"{', '.join(registry.kinds())}"
        ) from None
