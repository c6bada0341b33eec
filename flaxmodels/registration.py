"""Which class serves what: those of the families, and those that users register."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from . import registry
from .params.errors import quoted
from .registry import FAMILIES, ConfigClass, ModelClass

if TYPE_CHECKING:
    from flax import linen as nn

Model = TypeVar("Model", bound="nn.Module")
AutoClass: TypeAlias = str | type

_models: dict[tuple[str, str], list[type]] = {}
"""(auto class, model_type) -> model classes of users, the newest last."""
_configs: dict[str, type] = {}
"""model_type -> configuration classes of users."""


def model_class(name: str) -> ModelClass:
    """Finds the model class of that name, registered or of a family; KeyError if there is none."""
    for classes in _models.values():
        for cls in reversed(classes):
            if cls.__name__ == name:
                return cls
    if name in {family.config for family in FAMILIES.values()}:
        raise KeyError(name)
    return registry.family_class(name)


def model_for(auto_class: str, model_type: str, named: Iterable[str] = ()) -> ModelClass:
    """Finds the model class that serves an auto class for a kind of configuration.

    A class of the user's whose configuration is a family's own serves checkpoints that name it, and
    no others, unless it was put in the family's place.

    Args:
        named: the names of classes that the checkpoint's configuration gives.

    Raises:
        KeyError: no such kind: (known kinds); or a kind without such a class: (its classes).
    """
    model_type = registry.model_type_of(model_type)
    registered = _models.get((auto_class, model_type), [])
    for cls in reversed(registered):
        if cls.__name__ in named or model_type not in FAMILIES or cls in _instead:
            return cls
    if model_type not in FAMILIES:
        raise KeyError(kinds())
    if name := FAMILIES[model_type].serving(auto_class):
        return registry.family_class(name)
    raise KeyError(FAMILIES[model_type].models)


_instead: set[type] = set()
"""Classes of users that take the place of a family's."""


def config_for(model_type: str) -> ConfigClass:
    """Finds the configuration class of a kind; KeyError if there is none."""
    model_type = registry.model_type_of(model_type)
    if model_type in _configs:
        return _configs[model_type]
    return registry.family_class(FAMILIES[model_type].config)


def kinds() -> list[str]:
    """Lists the kinds of configuration that there are classes for."""
    return sorted({*FAMILIES, *_configs})


def model_names() -> list[str]:
    """Lists the names of the model classes that there are."""
    ours = [name for family in FAMILIES.values() for name in family.models]
    return sorted({*ours, *(cls.__name__ for classes in _models.values() for cls in classes)})


def is_known(model_type: object) -> bool:
    """Tells whether there are classes for what a `config.json` calls its model type."""
    return registry.model_type_of(model_type) in kinds()


def no_family(model_type: object) -> str:
    """Returns the error for a model type without classes: which there are, and the nearest."""
    hint = nearest(str(model_type).lower(), kinds())
    return f"no family for model_type {quoted(model_type)}{hint}; there are {', '.join(kinds())}"


def nearest(name: object, names: Sequence[str]) -> str:
    """Returns what an error adds to a name that is unknown: " (did you mean llama?)", or nothing
    where none is near."""
    near = difflib.get_close_matches(str(name)[:200], names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def auto_names(cls: type) -> list[str]:
    """Lists the auto classes that a class is registered with."""
    return sorted({auto for (auto, _), classes in _models.items() if cls in classes})


def auto_name(auto_class: AutoClass) -> str:
    """Returns the name of an auto class that is given by name, as the class, or by its Flax or TF
    name.

    Raises:
        ValueError: there is none.
    """
    name = auto_class.__name__ if isinstance(auto_class, type) else auto_class
    plain = name.removeprefix("Flax").removeprefix("TF") if isinstance(name, str) else name
    if plain not in registry.AUTO_CLASSES:
        raise ValueError(f"no auto class {name!r}; there are {', '.join(registry.AUTO_CLASSES)}")
    return plain


def add_config(model_type: str, cls: ConfigClass, *, exist_ok: bool = False) -> None:
    """Lets `AutoConfig` find a configuration class.

    Raises:
        ValueError: one of another `model_type`, or of one that is taken.
    """
    if cls.model_type != model_type:
        raise ValueError(f"{cls.__name__}.model_type is {cls.model_type!r}, not {model_type!r}")
    taken = _configs.get(model_type, cls) is not cls or model_type in FAMILIES
    if taken and not exist_ok:
        raise ValueError(
            f"model_type {model_type!r} is {config_for(model_type).__name__}'s; give the class "
            "another one, or exist_ok=True to take its place"
        )
    _configs[model_type] = cls


def check_model_class(cls: object) -> None:
    """Raises `TypeError` for what is no model class, such as a model."""
    if not isinstance(cls, type) or not hasattr(cls, "config_class"):
        raise TypeError(f"{cls!r:.80} is no model class: one has a config_class")


def add_model(auto_class: str, cls: ModelClass, *, instead: bool = False) -> None:
    """Lets an auto class find a model class.

    Raises:
        TypeError: it is no model class.
        ValueError: its configuration class has no `model_type` to be found by.
    """
    check_model_class(cls)
    config = cls.config_class
    if not config.model_type:
        raise ValueError(f"{cls.__name__}.config_class has no model_type to be found by")
    if config.model_type not in FAMILIES:
        _configs.setdefault(config.model_type, config)
    classes = _models.setdefault((auto_class, config.model_type), [])
    classes[:] = [other for other in classes if other.__name__ != cls.__name__] + [cls]
    if instead:
        _instead.add(cls)


@overload
def register_for_auto_class(  # pyright: ignore[reportOverlappingOverload] - auto classes are none
    auto_class: type[Model],
) -> type[Model]: ...
@overload
def register_for_auto_class(
    auto_class: str | type = "AutoModel",
) -> Callable[[type[Model]], type[Model]]: ...
def register_for_auto_class(auto_class: Any = "AutoModel") -> Any:
    """Lets an auto class find a model class of your own by its config's `model_type`; `load_plan`
    and the command line find it too. A save writes the class's name into `auto_map`. A decorator.

    Nothing is ever found by running code out of a repository: the class is there because your
    program has imported it.

    Args:
        auto_class: its name, with "Flax" or "TF" in front or without, or the class; the decorator
            without an argument stands for "AutoModel".

    Raises:
        ValueError: no such auto class, or a config class without a `model_type`.

    >>> @register_for_auto_class("AutoModelForCausalLM")  # doctest: +SKIP
    ... class MyForCausalLM(fm.LlamaForCausalLM):
    ...     config_class = MyConfig
    """
    if hasattr(auto_class, "config_class"):  # the decorator without an argument
        return register_for_auto_class()(auto_class)
    name = auto_name(auto_class)

    def register(cls: type[Model]) -> type[Model]:
        add_model(name, cls)
        return cls

    return register
