"""Activation functions under the names that `config.json` gives them."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def _gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


def _laplace(x: jax.Array) -> jax.Array:
    """The normal distribution's cumulative function nearest to relu2 (Ma et al. 2022,
    arXiv:2209.10655)."""
    return 0.5 * (1 + jax.lax.erf((x - 0.707107) / (0.282095 * math.sqrt(2))))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": _gelu,
    "gelu_python": _gelu,
    "gelu_10": lambda x: jnp.clip(_gelu(x), -10, 10),
    "gelu_new": jax.nn.gelu,
    "gelu_fast": jax.nn.gelu,
    "gelu_accurate": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
    "gelu_python_tanh": jax.nn.gelu,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "hardswish": jax.nn.hard_swish,
    "mish": jax.nn.mish,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "laplace": _laplace,
    "sqrtsoftplus": lambda x: jnp.sqrt(jax.nn.softplus(x)),
    "linear": lambda x: x,
}
"""`gelu` is exact; every other spelling of it is the tanh approximation, which the reference
implementation computes in several equivalent ways."""
