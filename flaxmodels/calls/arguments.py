"""The arguments of a call: arrays apart from what a program is compiled for; what `help` says."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

ARRAYS = jax.Array | jax.ShapeDtypeStruct | np.ndarray


def split(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """(the arrays of a tree, what puts others in their places).

    >>> arrays, rebuild = split({"x": np.zeros(2), "deep": True})
    >>> rebuild(["y"])
    {'deep': True, 'x': 'y'}
    """
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, ARRAYS)]

    def rebuild(arrays: list[Any]) -> Any:
        given = dict(zip(places, arrays, strict=True))
        return jax.tree.unflatten(structure, [given.get(i, x) for i, x in enumerate(leaves)])

    return [leaves[i] for i in places], rebuild


def abstract(array: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype alone."""
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def documented(function: Callable[..., Any], keywords: type, *more: str) -> Callable[[Any], Any]:
    """Decorator of a method `(cls, name_or_path, *model_args, **keywords)`: `help` and completion
    show the documentation of `function`, and the keywords one by one.

    Args:
        keywords: a dataclass with a field for each; the last field is for others.
        *more: paragraphs after the documentation's first.
    """
    kinds = inspect.Parameter
    listed = [
        field.replace(kind=kinds.KEYWORD_ONLY)
        for field in [*inspect.signature(keywords).parameters.values()][:-1]
    ]
    shown = [
        kinds("cls", kinds.POSITIONAL_OR_KEYWORD),
        kinds("name_or_path", kinds.POSITIONAL_OR_KEYWORD, default=None),
        kinds("model_args", kinds.VAR_POSITIONAL),
        *listed,
        kinds("fields", kinds.VAR_KEYWORD),
    ]

    def decorate(method: Any) -> Any:
        first, _, others = (function.__doc__ or "").partition("\n\n")
        method.__doc__ = "\n\n".join([first, *more, others])
        method.__signature__ = inspect.Signature(shown)
        return method

    return decorate
