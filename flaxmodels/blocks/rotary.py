"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864), float32 throughout."""

import jax
import jax.numpy as jnp

from ..documents.json_values import JsonObject
from .rope_scaling import rope_frequencies


def rotary(
    rope: JsonObject, positions: jax.Array, *, head_dim: int, max_positions: int
) -> tuple[jax.Array, jax.Array]:
    """Returns cosines and sines, float32 [B or 1, T, H / 2], of positions int [B or 1, T].

    "dynamic" and "longrope" depend on the length seen, which is the greatest position + 1: keys
    that a cache holds keep the frequencies of the call that wrote them, as in the reference.

    Args:
        rope: `rope_parameters` of a config; a key that is present has a value.
        max_positions: `max_position_embeddings` of the config.
    """
    length = jnp.max(positions) + 1
    frequencies, scale = rope_frequencies(rope, length, head_dim, max_positions)
    angles = positions[..., None].astype(jnp.float32) * jnp.asarray(frequencies)[None, None]
    return jnp.cos(angles) * scale, jnp.sin(angles) * scale


def apply_rotary(x: jax.Array, rotation: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates the halves of x [B, T, N, H] against each other, in float32; keeps its dtype."""
    cos, sin = (table[:, :, None] for table in rotation)
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = (left * cos - right * sin, right * cos + left * sin)
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
