"""What follows pooling: projections, norms, and vectors of length 1, as values without arrays."""

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp

from .. import params as fp
from ..blocks import ACTIVATIONS
from ..params.errors import quoted

Leaves: TypeAlias = Mapping[str, jax.Array]

ACTIVATION_CLASSES = {  # {class of torch.nn: name of ours}
    "GELU": "gelu",
    "Identity": "linear",
    "LeakyReLU": "leaky_relu",
    "Mish": "mish",
    "ReLU": "relu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
}
"""What an `activation_function` of a file may name: no class of a file is imported."""


def activation_name(said: object, where: str) -> str:
    """Returns our name of an activation that a file names by its class; raises `CheckpointError`
    for another class than those of `ACTIVATION_CLASSES`."""
    last = str(said).rpartition(".")[2]
    if not str(said).startswith("torch.nn.") or last not in ACTIVATION_CLASSES:
        raise fp.CheckpointError(
            f"{where}: the activation is {quoted(said)}; known are "
            f"{', '.join(ACTIVATION_CLASSES)} of torch.nn, and no code of a file is run"
        )
    return ACTIVATION_CLASSES[last]


def activation_class(name: str) -> str:
    """Returns the class under which a file has an activation of ours; raises `CheckpointError` for
    one that has none."""
    last = {ours: theirs for theirs, ours in ACTIVATION_CLASSES.items()}.get(name)
    if last is None:
        raise fp.CheckpointError(
            f"the activation {name!r} has no name in files of sentence-transformers; those that "
            f"have are {', '.join(ACTIVATION_CLASSES.values())}"
        )
    module = "linear" if last == "Identity" else "activation"
    return f"torch.nn.modules.{module}.{last}"


@dataclasses.dataclass(frozen=True)
class Dense:
    """x [..., in_features] -> act(x kernel + bias) [..., out_features].

    Attributes:
        act: a name of `blocks.ACTIVATIONS`.
    """

    in_features: int
    out_features: int
    use_bias: bool = True
    act: str = "tanh"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{leaf: shape}."""
        kernel = {"kernel": (self.in_features, self.out_features)}
        return kernel | ({"bias": (self.out_features,)} if self.use_bias else {})

    def __call__(self, leaves: Leaves, x: jax.Array) -> jax.Array:
        x = jnp.matmul(x, leaves["kernel"].astype(x.dtype))
        if self.use_bias:
            x = x + jnp.broadcast_to(leaves["bias"].astype(x.dtype), x.shape)
        return ACTIVATIONS[self.act](x)


@dataclasses.dataclass(frozen=True)
class LayerNorm:
    """x [..., features] -> the same, of mean 0 and variance 1, scaled and shifted."""

    features: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{leaf: shape}."""
        return {"scale": (self.features,), "bias": (self.features,)}

    @property
    def out_features(self) -> int:
        return self.features

    def __call__(self, leaves: Leaves, x: jax.Array) -> jax.Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        x = centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + 1e-5)
        scale, bias = (jnp.broadcast_to(leaves[name], x.shape) for name in ("scale", "bias"))
        return x * scale + bias


@dataclasses.dataclass(frozen=True)
class Normalize:
    """x [..., D] -> the same of length 1; zeros stay."""

    def __call__(self, leaves: Leaves, x: jax.Array) -> jax.Array:
        return normalized(x)


Layer: TypeAlias = Dense | LayerNorm | Normalize


def normalized(x: jax.Array) -> jax.Array:
    """Divides vectors x [..., D] by their lengths; a vector of zeros stays, with a gradient that is
    a number."""
    squared = jnp.square(x).sum(axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squared, 1e-24))
