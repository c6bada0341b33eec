"""Losses as sums that add up: over microbatches, devices and heads."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike


@struct.dataclass
class Part:
    """A term of a loss: what it adds up to over the items that count, and how many these are.

    Attributes:
        total: float32 scalar.
        count: float32 scalar: tokens of a language model, examples of a classifier.
    """

    total: jax.Array
    count: ArrayLike

    @property
    def mean(self) -> jax.Array:
        """The mean over the items that count; 0 where there are none."""
        count = jnp.asarray(self.count, jnp.float32)
        return self.total / jnp.where(count == 0, 1.0, count)


def loss_value(
    parts: Mapping[str, Part], counts: Mapping[str, ArrayLike] | None = None
) -> jax.Array:
    """Adds up the means of parts: a float32 scalar.

    Args:
        parts: of `loss_parts`.
        counts: {part: what its total is divided by}, in the place of `Part.count`: those of a
            whole batch, where the parts are of a microbatch. The values of the microbatches then
            add up to that of the batch, exactly as their gradients do.

    Raises:
        ValueError: counts without that of a part.
    """
    if counts is not None:
        if odd := [name for name in parts if name not in counts]:
            raise ValueError(
                f"counts are for {', '.join(counts) or 'nothing'}, and the loss has a part "
                f"{odd[0]!r}: expected a count for each part"
            )
        parts = {name: Part(part.total, counts[name]) for name, part in parts.items()}
    return sum((part.mean for part in parts.values()), jnp.zeros((), jnp.float32))
