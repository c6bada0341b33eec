"""Logits that are not made yet."""

import dataclasses
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from .. import blocks
from .. import sharding as fs
from ..params.tree.weights import Weight


@dataclasses.dataclass(frozen=True, eq=False)
class DeferredLogits:
    """Stands for logits [..., V] by what makes them: `softcap * tanh((x W + bias) * scale /
    softcap)`, without what is None.

    A model that is told `defer_logits` has it where others have logits. For a large vocabulary
    logits are the largest array of a training step: B * T * V numbers, of which a loss needs a few
    at a time (`training.losses.chunked`).

    JAX sees a node of the tree, whose leaves are hidden states, weight and bias.

    Attributes:
        hidden: x [..., D].
        weight: W, a kernel [D, V] or a table [V, D], as params have it: an array or a `Weight`.
        bias: [V].
        axis: of `weight`, which is multiplied with D: 0 of a kernel, 1 of a table.
        bias_apart: the bias is no part of the product: adapters that change all of a product's
            output leave it alone.
        scale, softcap: numbers.
        rules: as `Model.rules`, of logits [B, T, V].
        chunk: how many tokens a loss makes logits of at a time; up to the loss if None.
    """

    hidden: jax.Array
    weight: jax.Array | Weight
    bias: jax.Array | None = None
    axis: int = 0
    bias_apart: bool = False
    scale: float | None = None
    softcap: float | None = None
    rules: object = fs.DEFAULT_RULES
    chunk: int | None = None

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.weight.shape[1 - self.axis]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the logits: [..., V]."""
        return (*self.hidden.shape[:-1], self.vocab_size)

    @property
    def ndim(self) -> int:
        """The number of axes of the logits."""
        return self.hidden.ndim

    @property
    def dtype(self) -> np.dtype:
        """The dtype in which `logits` makes them: that of the hidden states."""
        return self.hidden.dtype

    def logits(self) -> jax.Array:
        """Makes the logits [..., V], all at once."""
        return placed(self.shaped(self.product(self.hidden, self.weight, self.bias)), self.rules)

    def product(
        self, x: jax.Array, weight: jax.Array | Weight, bias: jax.Array | None
    ) -> jax.Array:
        """Multiplies x [..., D] with a weight and adds a bias: [..., V], as x.dtype."""
        if not self.bias_apart or bias is None:
            return blocks.affine(x, weight, bias, self.axis)
        return blocks.with_bias(blocks.contract(x, weight, self.axis), bias)

    def shaped(self, y: jax.Array) -> jax.Array:
        """Scales and caps products y [..., V]."""
        return shaped(y, self.scale, self.softcap)

    def reshape(self, *shape: int) -> Self:
        """Returns the same logits with other axes before the last.

        Raises:
            ValueError: a shape that does not end with V.
        """
        if shape[-1:] != (self.vocab_size,):
            raise ValueError(
                f"deferred logits of shape {self.shape} as {shape}: the last axis stays "
                f"{self.vocab_size}; .logits() makes an array of them, of which any shape can be"
            )
        hidden = self.hidden.reshape(*shape[:-1], self.hidden.shape[-1])
        return dataclasses.replace(self, hidden=hidden)


jax.tree_util.register_dataclass(
    DeferredLogits,
    data_fields=["hidden", "weight", "bias"],
    meta_fields=["axis", "bias_apart", "scale", "softcap", "rules", "chunk"],
)


def shaped(y: jax.Array, scale: float | None, softcap: float | None) -> jax.Array:
    """Scales and caps products y [..., V]: `softcap * tanh(y * scale / softcap)`."""
    if scale is not None:
        y = blocks.scaled(y, scale)
    return y if softcap is None else jnp.tanh(y / softcap) * softcap


def placed(logits: jax.Array, rules: object) -> jax.Array:
    """Tells the compiler how logits are split by rules."""
    return fs.constrain(logits, logical_axes(logits.ndim), rules)


def logical_axes(ndim: int) -> tuple[str | None, ...]:
    """Returns the logical axes of logits: [B, T, V], [B, choices, T, V], [B, V]."""
    if ndim < 3:
        return (("batch",) if ndim == 2 else ()) + ("vocab",)
    return ("batch", *(None,) * (ndim - 3), "length", "vocab")
