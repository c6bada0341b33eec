"""Norms over the last axis, computed in float32 (of float64 in that) and returned in the dtype of
the input."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ..params.tree.cast import at_least_float32
from .weights.parameter import parameter


class RMSNorm(nn.Module):
    """x [..., D] / rms(x) * (offset + scale) (Zhang and Sennrich 2019, arXiv:1910.07467).

    Attributes:
        offset: added to the parameter, which begins at 1 - `offset`; 1 in Gemma.
        use_scale: whether there is a parameter.
        axes: logical names of the parameter's axes, the last ones of x: ("heads", "norm") for
            [N, H], of which only the last is normalised over.
    """

    eps: float
    offset: float = 0.0
    use_scale: bool = True
    axes: tuple[str, ...] = ("norm",)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(at_least_float32(x.dtype))
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + self.eps)
        if self.use_scale:
            start = nn.initializers.constant(1 - self.offset, jnp.float32)
            scale = _parameter(self, "scale", start, y)
            y = y * (scale + self.offset if self.offset else scale)
        return y.astype(x.dtype)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * scale + bias (Ba et al. 2016, arXiv:1607.06450).

    Attributes:
        axes: see `RMSNorm`.
    """

    eps: float
    use_bias: bool = True
    use_scale: bool = True
    axes: tuple[str, ...] = ("norm",)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(at_least_float32(x.dtype))
        y = y - jnp.mean(y, -1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + self.eps)
        if self.use_scale:
            y = y * _parameter(self, "scale", nn.initializers.ones, y)
        if self.use_bias:
            y = y + _parameter(self, "bias", nn.initializers.zeros, y)
        return y.astype(x.dtype)


def _parameter(norm: RMSNorm | LayerNorm, name: str, init, like: jax.Array) -> jax.Array:
    value = parameter(norm, name, init, like.shape[-len(norm.axes) :], norm.axes)
    return jnp.broadcast_to(value.astype(like.dtype), like.shape)
