"""How a block makes a parameter."""

from typing import Any

import jax
from flax import linen as nn

from .. import sharding as fs


def parameter(
    module: nn.Module,
    name: str,
    init: fs.Draw,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
) -> jax.Array:
    """The parameter `name` of a module, whose dimensions have the logical `axes`."""
    unboxed: Any = module.param(name, fs.with_axes(init, *axes), shape)
    return unboxed
