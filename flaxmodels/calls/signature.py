"""The keywords of a call as values: frozen dataclasses made of them, and what `help` shows."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar, cast

from . import keywords

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])


def names_of(cls: type) -> tuple[str, ...]:
    """Returns the names of a dataclass's fields, in their order."""
    return tuple(field.name for field in dataclasses.fields(cls))


def defaults_of(cls: type) -> dict[str, object]:
    """Returns {name: default} of a dataclass's fields, in their order."""
    return {field.name: field.default for field in dataclasses.fields(cls)}


def take(names: Iterable[str], given: dict[str, T]) -> dict[str, T]:
    """Takes keywords out of `given`, where all others stay.

    >>> given = {"a": 1, "b": 2}
    >>> take(["a", "c"], given), given
    ({'a': 1}, {'b': 2})
    """
    return {name: given.pop(name) for name in names if name in given}


def value_of(
    cls: type[T], given: Mapping[str, object], call: str, others: Collection[str] = ()
) -> T:
    """Makes a dataclass of the keywords of a call.

    Args:
        others: arguments that the call takes beside them, for the error.

    Raises:
        TypeError: a keyword that it has no field for.
    """
    names = names_of(cls)
    if odd := given.keys() - names:
        raise keywords.unknown(odd, call, {"by keyword": {*names, *others}})
    return cls(**given)


def shows(defaults: Mapping[str, object]) -> Callable[[F], F]:
    """Decorates a function that takes `**options`: `help` and completion list the keywords.

    Args:
        defaults: {keyword: its default}. A parameter whose default is `...` is shown without it.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        *first, others = signature.parameters.values()
        empty, kind = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY
        first = [p.replace(default=empty) if p.default is ... else p for p in first]
        listed = [inspect.Parameter(name, kind, default=defaults[name]) for name in defaults]
        parameters = [*first, *listed, others.replace(annotation=empty)]
        function.__signature__ = signature.replace(parameters=parameters)
        return function

    return decorate


def params_first(method: F) -> F:
    """Decorates a method of a model, (self, params, where, ...): calls in the order of Transformers
    and of old Flax, such as `save_pretrained(folder, params=params)`, are told what to write."""
    name = method.__name__
    _, *names = [*inspect.signature(method).parameters][:3]

    @functools.wraps(method)
    def call(self: object, *args: object, **given: object) -> object:
        by_name = [one for one in names if one in given]
        if len(args) + len(by_name) < len(names) or (args and "params" in given):
            raise TypeError(
                f"{type(self).__name__}.{name} takes {' and '.join(names)}, in this order: write "
                f"model.{name}({', '.join(names)}, ...)"
            )
        return method(self, *args, **given)

    return cast(F, call)


def like(other: F, *more: str) -> Callable[[object], F]:
    """Decorates a class method that type checkers and `help` take for that of another class.

    Args:
        other: the bound method of the other class.
        more: paragraphs of documentation, after the first of `other`.
    """

    def decorate(method: Any) -> Any:
        first, _, others = (other.__doc__ or "").partition("\n\n")
        method.__func__.__doc__ = "\n\n".join([first, *more, others])
        method.__func__.__signature__ = inspect.signature(getattr(other, "__func__", other))
        return method

    return decorate
