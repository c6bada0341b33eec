"""Heads that read which tokens there are, and the mean over them."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from ...core import outputs
from .. import task_heads
from ..decoder import Inputs


class MaskedHead(task_heads.TaskHead):
    """A head whose arguments are those of its backbone, and which reads `attention_mask` too."""

    @nn.compact
    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        **inputs: Unpack[Inputs],
    ) -> outputs.Output:
        base = self.base()
        out = base(input_ids, attention_mask, **inputs)
        return self.head(base, out, attention_mask, inputs.get("deterministic", True))

    def head(
        self, base: nn.Module, out: Any, attention_mask: jax.Array | None, deterministic: bool
    ) -> outputs.Output:
        """Makes the model's output of the backbone's `BaseOutput`; makes its own submodules."""
        raise TypeError(f"{type(self).__name__} defines no head")


def mean_of_tokens(x: jax.Array, attention_mask: jax.Array | None) -> jax.Array:
    """Returns the mean of x [B, T, D] over the places that are tokens -> [B, D].

    Args:
        attention_mask: [B or 1, T], 1 for tokens; None for all.

    Raises:
        ValueError: a mask over pairs of tokens, which does not say which of them count.
    """
    if attention_mask is None:
        return x.mean(1)
    mask = jnp.asarray(attention_mask)
    if mask.ndim != 2:
        raise ValueError(
            f"attention_mask has shape {mask.shape}: a mean over tokens needs one over them, [B, T]"
        )
    mask = mask.astype(bool).astype(x.dtype)[..., None]
    return (x * mask).sum(1) / mask.sum(1)
