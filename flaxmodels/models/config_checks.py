"""Checks of configurations that families share; each raises `ConfigError` with the field's name."""

import re
from collections import Counter
from typing import Any

from ..blocks import ACTIVATIONS
from ..config.config import Config
from ..documents.json_values import ConfigError

NO_COMPOSITES = {
    "cross_attention_hidden_size": (None,),
    "is_encoder_decoder": (False, None),
    "tie_encoder_decoder": (False, None),
}
"""Keys of any family's `config.json` that change the model in ways not implemented -> the values
that are fine."""

NOT_IMPLEMENTED = {"add_cross_attention": (False, None), **NO_COMPOSITES}
"""The same, of a family without layers that attend to an encoder."""


def multiple(config: Config, name: str, of: str) -> None:
    """Refuses a field `name` that is not a multiple of field `of`."""
    value, unit = getattr(config, name), getattr(config, of)
    if unit < 1 or value % unit:
        raise ConfigError(
            f"{type(config).__name__}: {name} = {value} is not a multiple of {of} = {unit}"
        )


def pruned_heads(config: Config) -> None:
    """Refuses `pruned_heads` that name no layer or head, leave a layer without heads, or take a
    part of those that share a key-value head."""
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    group = heads // config.num_key_value_heads

    def refuse(problem: str) -> None:
        raise ConfigError(f"{type(config).__name__}: pruned_heads {problem}")

    for layer in config.pruned_heads:
        pruned: Any = config.pruned_heads[layer]  # whose type in flax allows for nested dicts
        if not re.fullmatch("0|[1-9][0-9]{0,9}", layer) or int(layer) >= layers:
            refuse(f"names layer {layer:.100}; there are layers 0 to {layers - 1}")
        if odd := [head for head in pruned if not 0 <= head < heads]:
            refuse(f"names head {odd[0]} of layer {layer}; there are heads 0 to {heads - 1}")
        if len(pruned) == heads:
            refuse(f"leaves layer {layer} none of its {heads} heads")
        for shared, count in Counter(head // group for head in pruned).items():
            if count < group:
                refuse(
                    f"takes {count} of the heads {shared * group} to {(shared + 1) * group - 1} of "
                    f"layer {layer}, which share a key-value head; take all {group} or none"
                )


def joined_heads(config: Config) -> None:
    """Refuses `pruned_heads` of a family whose checkpoints have q, k and v of each head together:
    one number of heads says how, for all layers."""
    if config.pruned_heads:
        raise ConfigError(
            f"{type(config).__name__}: pruned_heads is not implemented: checkpoints have q, k and "
            "v joined by num_attention_heads, in every layer"
        )


def activation(config: Config, name: str) -> None:
    """Refuses a field `name` that names no activation function of `ACTIVATIONS`."""
    if (value := getattr(config, name)) not in ACTIVATIONS:
        raise ConfigError(
            f"{type(config).__name__}: {name} = {value!r} is not implemented (implemented: "
            f"{', '.join(ACTIVATIONS)})"
        )
