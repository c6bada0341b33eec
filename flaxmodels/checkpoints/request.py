"""What a load is asked for: the keywords of `from_pretrained` as one value."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp

from .. import params as fp
from ..calls import keywords
from ..calls.signature import defaults_of, names_of, take
from ..config.config import Config, find_config
from ..core.fields import config_names, field_names
from ..core.model import Model
from ..documents.json_files import CONFIG_NAME
from ..hub import HubOptions, Location, resolve
from ..params.multihost import broadcast_from_process_0, run_on_all_processes
from ..params.save.saveable import check_variant
from ..params.scalars import flag
from ..params.tree.keys import one_key
from .model_plan import PlanOptions
from .options import LOAD

NameOrPath = str | os.PathLike | Location
UNSAID: Any = ...
"""Stands for a name that was not given: None is one, for a load without a checkpoint."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightChoice:
    """Which of the weights in a folder are read; see `PretrainedModel.from_pretrained`."""

    use_safetensors: bool | None = None
    from_pt: bool = False
    from_tf: bool = False
    from_flax: bool = False
    variant: str | None = None
    weights_only: bool = True
    gguf_file: str | None = None

    def __post_init__(self) -> None:
        check_variant(self.variant)
        _ = self.framework
        if not isinstance(self.gguf_file, str | None):
            raise TypeError(f"gguf_file is {self.gguf_file!r:.80}; expected a file's name")
        others = ("use_safetensors", "from_tf", "from_flax", "variant")
        if self.gguf_file is not None and (odd := [name for name in others if getattr(self, name)]):
            raise TypeError(f"give gguf_file or {odd[0]}, not both")

    @property
    def framework(self) -> str | None:
        """The framework whose weights alone are taken: "pt", "tf" or "flax"."""
        given = [name for name in ("pt", "tf", "flax") if getattr(self, f"from_{name}")]
        if len(given) > 1:
            raise TypeError(f"give one of {', '.join('from_' + name for name in given)}, not all")
        return given[0] if given else None

    def open(self, location: Location) -> fp.Source:
        """Opens the source of the weights."""
        return location.open(
            weights_only=self.weights_only,
            use_safetensors=self.use_safetensors,
            framework=self.framework,
            variant=self.variant,
            adapted=True,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A call of `from_pretrained`, which says what its keywords mean.

    Attributes:
        call: "LlamaForCausalLM.from_pretrained", for errors.
        positional: the arguments after the name; fields of the model.
        fields: the keywords that are none of a load's own: fields of the model and of its
            configuration.
        adapter_name: of an adapter that is found beside the weights, or in their place.
        adapter_kwargs: where it is, if not there: fields of `HubOptions`.
        adapt: what is made of the configuration before `fields` change it.
    """

    call: str
    name_or_path: NameOrPath | None
    positional: tuple[object, ...] = ()
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Config | str | os.PathLike | None = None
    key: jax.Array | None = None
    state_dict: Mapping[str, object] | None = None
    key_mapping: Mapping[str, str] | None = None
    verify: bool = False
    output_loading_info: bool = False
    adapter_name: str | None = None
    adapter_kwargs: Mapping[str, object] | None = None
    hub: HubOptions = HubOptions()
    weights: WeightChoice = WeightChoice()
    plan: PlanOptions = PlanOptions()
    adapt: Callable[[Config], Config] = lambda config: config

    @classmethod
    def of(
        cls, call: str, name_or_path: object, positional: Sequence[object], given: Mapping[str, Any]
    ) -> Self:
        """Makes a request of the arguments of a call.

        Args:
            name_or_path: `UNSAID` if it may be among `given`, under Transformers' name.

        Raises:
            TypeError: a value of the wrong kind, two that contradict each other, or no name.
            ValueError: a budget that is no number of bytes, or a variant that is no part of a name.
        """
        options = keywords.with_our_names(given, call, keywords.LOAD_NAMES)
        name_or_path = taken_name(call, name_or_path, options)
        options = {name: _checked(name, value) for name, value in options.items()}
        request = cls(
            call=call,
            name_or_path=name_or_path,
            positional=tuple(positional),
            hub=HubOptions(**take(names_of(HubOptions), options)),
            weights=WeightChoice(**take(names_of(WeightChoice), options)),
            plan=PlanOptions(**take(names_of(PlanOptions), options)),
            **take(_OWN, options),
            fields=options,
        )
        if request.verify and request.state_dict is not None:
            raise TypeError("verify compares files, and state_dict has none; give one of them")
        if not isinstance(config := request.config, Config | str | os.PathLike | None):
            kind = config.__name__ if isinstance(config, type) else f"a {type(config).__name__}"
            raise TypeError(
                f"config is {kind}: expected a configuration, such as LlamaConfig(**fields), or "
                "the path of one"
            )
        return request

    def for_class(self, cls: type[Model]) -> Self:
        """Returns the request with its fields under the names that a model class has for them.

        Raises:
            TypeError: a keyword that asks for what is not done here, more fields than there are,
                or one given twice.
        """
        names = field_names(cls)
        known = {*names, *config_names(cls.config_class)}
        fields = keywords.ours(self.fields, known, cls.__name__, self.call)
        if len(self.positional) > len(names):
            raise TypeError(
                f"{self.call} takes {len(names)} fields of the model by position "
                f"({', '.join(names)}), got {len(self.positional)}"
            )
        by_position = dict(zip(names, self.positional, strict=False))
        if twice := sorted(by_position.keys() & fields.keys()):
            raise TypeError(
                f"{self.call} got {', '.join(twice)} by position and by keyword; give one"
            )
        return dataclasses.replace(self, fields=fields | by_position, positional=())

    def locate(self, name_or_path: NameOrPath, options: HubOptions | None = None) -> Location:
        """Resolves a name. Where params are spread over processes, process 0 says which commit of
        a repository it is, and an error of one process is raised by all.

        Args:
            options: instead of `self.hub`.
        """
        options = self.hub if options is None else options
        if self.plan.is_local:
            return resolve(name_or_path, options)
        tell = functools.partial(broadcast_from_process_0, "the commit of a repository")
        find = functools.partial(resolve, name_or_path, options, agree=tell)
        return run_on_all_processes(find, "finding a checkpoint", alone=False)

    def locate_weights(self, name_or_path: NameOrPath) -> Location:
        """Returns where the weights are: `gguf_file`, if it is given, of what `locate` finds."""
        location, name = self.locate(name_or_path), self.weights.gguf_file
        if name is None:
            return location
        find = functools.partial(location.file, name)
        return run_on_all_processes(find, "finding a checkpoint", alone=self.plan.is_local)

    def locate_config(self, name_or_path: str | os.PathLike) -> str:
        """Returns the path of the `config.json` that `config=` names: a folder's, a file, or a
        repository's in the cache."""
        if os.path.exists(name_or_path):
            return find_config(name_or_path)[1]
        return os.path.join(self.locate(name_or_path).folder, CONFIG_NAME)


_OWN = ("config", "key", "state_dict", "key_mapping", "verify", "output_loading_info")
_OWN += ("adapter_name", "adapter_kwargs")

DEFAULTS: dict[str, object] = {
    "config": None,
    "dtype": jnp.float32,
    "rules": None,
    **{name: defaults_of(Request)[name] for name in _OWN},
    **defaults_of(PlanOptions),
    **defaults_of(WeightChoice),
    **defaults_of(HubOptions),
}
"""{keyword of a load: its default}."""

_FLAGS = {
    field.name: field.default
    for cls in (Request, PlanOptions, WeightChoice, HubOptions)
    for field in dataclasses.fields(cls)
    if field.type in (bool, bool | None)
}


def taken_name(call: str, name_or_path: object, options: dict[str, object]) -> NameOrPath | None:
    """Returns where the checkpoint is; taken out of `options`, where it has Transformers' name."""
    names = [n for n in ("pretrained_model_name_or_path", "name_or_path") if n in options]
    if len(names) + (name_or_path is not UNSAID) > 1:
        raise TypeError(f"{call} got the name of the checkpoint twice, as {names[-1]} too")
    if name_or_path is UNSAID and not names:
        raise TypeError(f"{call} needs name_or_path: a folder, a repository, a file, or None")
    name = options.pop(names[0]) if names else name_or_path
    if not isinstance(name, NameOrPath | None):
        raise TypeError(
            f"name_or_path is {name!r:.80}: expected a folder, a repository, a file, or None"
        )
    return name


def _checked(name: str, value: Any) -> Any:
    """Returns the value of a load's own keyword, checked: any text would count as True; None is
    the default of a flag. Other keywords pass."""
    if name not in LOAD:
        return value
    if name in _FLAGS:
        return _FLAGS[name] if value is None else flag(name, value)
    return one_key(value) if name == "key" and value is not None else value
