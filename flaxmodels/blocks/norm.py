"""Norms: computed in float32 over the last axis, returned in the dtype of the input."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from .parameter import parameter


class RMSNorm(nn.Module):
    """x [..., D] / rms(x) * scale (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + self.eps)
        return (y * _parameter(self, "scale", nn.initializers.ones, y)).astype(x.dtype)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * scale + bias (Ba et al. 2016, arXiv:1607.06450)."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        y = y - jnp.mean(y, -1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + self.eps)
        y = y * _parameter(self, "scale", nn.initializers.ones, y)
        return (y + _parameter(self, "bias", nn.initializers.zeros, y)).astype(x.dtype)


def _parameter(norm: nn.Module, name: str, init, like: jax.Array) -> jax.Array:
    value = parameter(norm, name, init, like.shape[-1:], ("norm",))
    return jnp.broadcast_to(value.astype(like.dtype), like.shape)
