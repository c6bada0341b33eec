"""Checks of configurations that families share; each raises `ConfigError` with the field's name."""

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from ..blocks import ACTIVATIONS
from ..config.config import Config
from ..documents.json_values import ConfigError, shown

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
        raise ConfigError(f"{name} = {value} is not a multiple of {of} = {unit}")


def even_share(config: Config) -> int:
    """Returns the width of heads that are together as wide as the model; refuses other numbers of
    them."""
    multiple(config, "hidden_size", of="num_attention_heads")
    return config.hidden_size // config.num_attention_heads


def pruned_heads(config: Config) -> None:
    """Refuses `pruned_heads` that name no layer or head, leave a layer without heads, or take a
    part of those that share a key-value head."""
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    group = heads // config.num_key_value_heads

    def refuse(problem: str) -> None:
        raise ConfigError(f"pruned_heads {problem}")

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


def no_pruned_heads(config: Config, why: str) -> None:
    """Refuses `pruned_heads` of a family that cannot do without some, for a reason."""
    if config.pruned_heads:
        raise ConfigError(f"pruned_heads is not implemented: {why}")


def joined_heads(config: Config) -> None:
    """Refuses `pruned_heads` of a family whose checkpoints have q, k and v of each head together:
    one number of heads says how, for all layers."""
    why = "checkpoints have q, k and v joined by num_attention_heads, in every layer"
    no_pruned_heads(config, why)


def one_of(config: Config, name: str, known: Collection[str]) -> None:
    """Refuses a field `name` whose value is none of those that are known."""
    if (value := getattr(config, name)) not in known:
        raise ConfigError(
            f"{name} = {shown(value)} is not implemented (implemented: {', '.join(known)})"
        )


_OF_ACTIVATIONS = frozenset(
    "activation activation_function classifier_activation conv_act hidden_act hidden_activation "
    "pooler_hidden_act".split()
)
"""The fields, of whichever family, that name an activation function."""


def activations(config: Config) -> None:
    """Refuses fields that are to name an activation function, and name none."""
    for name in sorted(_OF_ACTIVATIONS & {*config.names()}):
        activation(config, name)


def activation(config: Config, name: str) -> None:
    """Refuses a field `name` that names no activation function."""
    one_of(config, name, ACTIVATIONS)


def rotating_heads(config: Config) -> None:
    """Refuses heads of an odd width, of which no rotation turns all."""
    if config.head_dim % 2:
        raise ConfigError(
            f"heads of {config.head_dim} numbers; rotary embedding turns pairs of them, and needs "
            "an even head_dim"
        )


def padding_token(config: Config) -> None:
    """Refuses a `pad_token_id` of None, where positions are counted from it on."""
    if config.pad_token_id is None:
        raise ConfigError(
            "pad_token_id is None, and positions begin after it; give the id of the padding token"
        )
