"""Convolutions over a sequence."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ...blocks import parameter


class Conv(nn.Module):
    """Convolves x [B, T, in] with windows of `width` tokens, an odd number, around each ->
    [B, T, features]; beyond the ends there are zeros.

    Attributes:
        std: of the normal from which the kernel [width, in / groups, features] is drawn.
        groups: of input and output channels, each of which sees its own.
    """

    features: int
    width: int
    std: float
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.width, x.shape[-1] // self.groups, self.features)
        draw = nn.initializers.normal(self.std, jnp.float32)
        kernel = parameter(self, "kernel", draw, shape, ("window", "embed", "hidden"))
        bias = parameter(self, "bias", nn.initializers.zeros, shape[2:], ("hidden",))
        y = jax.lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            window_strides=(1,),
            padding=[(self.width // 2, self.width // 2)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=self.groups,
        )
        return y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)
