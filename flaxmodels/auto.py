"""Auto classes: from a `config.json` to the class that runs it, imported when it is asked for."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, Unpack

import jax

from . import registration
from .calls import keywords
from .calls.signature import like, shows
from .checkpoints.build import build, described
from .checkpoints.classes import architecture as architecture
from .checkpoints.classes import class_for, config_class, head_class, named_class
from .checkpoints.load import load, planned
from .checkpoints.model_plan import PlanOptions, plan_load
from .checkpoints.options import LOAD, ConfigKeywords, ModelFields, PlannedLoadKeywords
from .checkpoints.request import DEFAULTS, UNSAID, Request, taken_name
from .config.config import Config, read_config
from .documents import config_keys
from .documents.json_files import config_path, naming
from .hub import HubOptions, Location
from .models.base import PretrainedModel
from .params import Params, open_checkpoint
from .params.checkpoint.load_plan import LoadPlan
from .registry import FAMILIES


class AutoConfig:
    """`from_pretrained` -> the configuration of any family, as `config.json` names it."""

    @staticmethod
    def from_pretrained(
        name_or_path: str | os.PathLike | Location | None = None,
        **options: Unpack[ConfigKeywords],
    ) -> Config:
        """Reads `config.json` of a folder or repository.

        Args:
            name_or_path: as a model's `from_pretrained` takes it.
            **options: fields of the configuration, which they override, and what says where it is:
                revision, token, cache_dir, ...; gguf_file, as a model's `from_pretrained`.

        Raises:
            ConfigError: a family that is not there.
            TypeError: a keyword of a model's load, or one that nothing takes.
        """
        call = "AutoConfig.from_pretrained"
        given = keywords.with_our_names(options, call)
        name = taken_name(call, UNSAID if name_or_path is None else name_or_path, given)
        if name is None:
            raise TypeError(f"{call} needs name_or_path: a folder, a repository, or a file")
        hub_options, gguf_file = HubOptions.take_from(given), given.pop("gguf_file", None)
        of_configs = {*config_keys.INSTEAD, config_keys.QUANTISED}
        of_models = {*LOAD, *ModelFields.__annotations__} - of_configs
        if odd := sorted(given.keys() & of_models):
            raise TypeError(
                f"{call} does not take {', '.join(odd)}: a configuration has none; give it to "
                "from_pretrained of a model"
            )
        location, path, values = read_config(name, hub_options, gguf_file)
        with location.noting(), naming(path):
            config = config_class(values).from_dict(values, path=path)
        return config.replace(**given)

    @staticmethod
    def register(model_type: str, config: type[Config], exist_ok: bool = False) -> None:
        """Lets configurations of a kind be read by a class of your own.

        Raises:
            TypeError: it is no class of configurations.
            ValueError: the class's `model_type` is another, or is taken.
        """
        _check_config_class(config)
        registration.add_config(model_type, config, exist_ok=exist_ok)


def _check_config_class(given: object) -> None:
    if not isinstance(given, type) or not issubclass(given, Config):
        raise TypeError(f"{given!r:.80} is no class of configurations, as fm.LlamaConfig is one")


class _Auto:
    """An auto class: `from_pretrained` and `from_config` of the class that fits."""

    def __new__(cls, *_: object, **__: object) -> NoReturn:
        raise TypeError(
            f"{cls.__name__} is no model: {cls.__name__}.from_pretrained(name) and "
            ".from_config(config) make one of the class that fits"
        )

    @classmethod
    def class_for(cls, model_type: str, named: Iterable[str] = ()) -> type[PretrainedModel]:
        """Finds the model class of a family for this head; see
        `flaxmodels.checkpoints.classes.class_for`."""
        return class_for(cls.__name__, model_type, named)

    @classmethod
    def register(
        cls, config_class: type[Config], model_class: type[PretrainedModel], exist_ok: bool = False
    ) -> None:
        """Lets this auto class find a model class of your own by its configuration's class.

        Raises:
            ValueError: the model class reads another configuration, or a family has one for it.
        """
        registration.check_model_class(model_class)
        _check_config_class(config_class)
        kind = config_class.model_type
        if model_class.config_class is not config_class:
            raise ValueError(
                f"{model_class.__name__} reads a {model_class.config_class.__name__}, not a "
                f"{config_class.__name__}"
            )
        if kind in FAMILIES and not exist_ok:
            raise ValueError(
                f"{cls.class_for(kind).__name__} serves {config_class.__name__}; give exist_ok=True"
                " to take its place, or your configuration a model_type of its own"
            )
        registration.add_model(cls.__name__, model_class, instead=exist_ok)

    @like(
        PretrainedModel.from_pretrained,
        "        The class is that of the family which `config.json` names.",
    )
    @classmethod
    def from_pretrained(cls, name_or_path: Any = UNSAID, *model_args: Any, **options: Any) -> Any:
        request = Request.of(f"{cls.__name__}.from_pretrained", name_or_path, model_args, options)
        return load(request, cls._class_of)

    @classmethod
    def _class_of(cls, values: Mapping[str, object], where: str) -> type[PretrainedModel]:
        return head_class(cls.__name__, values)

    @classmethod
    def from_config(cls, config: Config, **fields: Unpack[ModelFields]) -> PretrainedModel:
        """Returns the model of a configuration, with the given module fields; no params.

        Raises:
            TypeError: no configuration, such as a dict or a class.
        """
        if not isinstance(config, Config):
            raise TypeError(
                f"{cls.__name__}.from_config takes a configuration, got {config!r:.80}; "
                "AutoConfig.from_pretrained reads one"
            )
        return head_class(cls.__name__, config.to_dict()).from_config(config, **fields)


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


class AutoModelForAudioClassification(_Auto):
    """Models that label a recording."""


class AutoModelForVision2Seq(_Auto):
    """Models from images to text."""


class AutoModelForImageTextToText(_Auto):
    """Models from images among text to text."""


@shows(DEFAULTS)
def load_plan(
    name_or_path: str | os.PathLike | Location | None = UNSAID,
    *model_args: object,
    model_class: type[PretrainedModel] | None = None,
    **options: Unpack[PlannedLoadKeywords],
) -> LoadPlan:
    """Plans what a load reads and where it goes, without reading a weight.

    Args:
        name_or_path: and what follows, as `from_pretrained` takes them.
        model_class: the class that `architectures` of `config.json` names, or `AutoModel`'s, if
            None.
    """
    request = Request.of("load_plan", name_or_path, model_args, options)
    if request.verify:
        raise TypeError("load_plan reads no weights, and verify all of them; give it to the load")
    if model_class is None:
        return planned(request, named_class).plan
    return planned(request.for_class(model_class), lambda *_: model_class).plan


def saved(folder: str, variant: str | None = None) -> tuple[PretrainedModel, Params]:
    """Returns the model of a saved checkpoint and its abstract params; reads no weight."""
    cls, config = described(named_class, config_path(folder))
    model = build(cls, config, {}, folder)
    plan = plan_load(model, open_checkpoint(folder, variant=variant), PlanOptions())
    leaves = {leaf.path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in plan.leaves}
    return model, plan.tree(leaves)
