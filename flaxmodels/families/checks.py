"""Checks that configs of several families make; each raises `ConfigError` naming the field."""

from typing import Any

from flax.core import FrozenDict

from ..blocks import ACTIVATIONS
from ..config import ConfigError

NOT_IMPLEMENTED = {
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "is_encoder_decoder": (False, None),
    "tie_encoder_decoder": (False, None),
    "pruned_heads": (FrozenDict(), None),
}
"""Keys of any family's `config.json` -> the values that leave the model as it is here."""


def multiple(config: Any, name: str, of: str) -> None:
    """Field `name` must be a multiple of field `of`."""
    value, unit = getattr(config, name), getattr(config, of)
    if unit < 1 or value % unit:
        raise ConfigError(
            f"{type(config).__name__}: {name} = {value} is not a multiple of {of} = {unit}"
        )


def activation(config: Any, name: str) -> None:
    """Field `name` must be the name of an activation function that is implemented."""
    if (value := getattr(config, name)) not in ACTIVATIONS:
        raise ConfigError(
            f"{type(config).__name__}: {name} = {value!r} is not implemented (implemented: "
            f"{', '.join(ACTIVATIONS)})"
        )
