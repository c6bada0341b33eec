"""The arguments of a model, by their names."""

import inspect
import typing

from .model import Model

_NO_ARRAYS = frozenset(
    "cache deterministic encoder_outputs logits_to_keep output_attentions output_hidden_states "
    "self".split()
)


def array_arguments(model: Model) -> tuple[str, ...]:
    """Lists the arguments of a model's `__call__` that are arrays of a batch, in order."""
    found: list[str] = []
    for name, parameter in inspect.signature(type(model).__call__).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            found.append(name)
            continue
        for of_type in typing.get_args(parameter.annotation):  # Unpack[a TypedDict]
            found += getattr(of_type, "__annotations__", ())
    base = getattr(model, "backbone", model)
    unread = _NO_ARRAYS | getattr(base, "not_taken", frozenset())
    return tuple(name for name in found if name not in unread)
