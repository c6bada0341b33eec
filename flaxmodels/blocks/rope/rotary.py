"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864), float32 throughout."""

import flax.struct
import jax
import jax.numpy as jnp

from ...documents.json_values import JsonObject
from .rope_scaling import rope_frequencies


@flax.struct.dataclass
class Rotation:
    """Holds what the queries and keys of a forward pass are rotated by.

    Attributes:
        cos: float32 [B or 1, T, R / 2]; the first R numbers of a head turn, the others pass.
        sin: as `cos`.
        pairs: the numbers 2i and 2i + 1 turn against each other, instead of i and i + R / 2.
        query_factor: float32 [B or 1, T], what queries are multiplied with after their rotation;
            None for nothing.
    """

    cos: jax.Array
    sin: jax.Array
    pairs: bool = flax.struct.field(pytree_node=False, default=False)
    query_factor: jax.Array | None = None


def rotary(
    rope: JsonObject,
    positions: jax.Array,
    *,
    head_dim: int,
    max_positions: int,
    pairs: bool = False,
) -> Rotation:
    """Returns the rotation of heads at positions int [B or 1, T].

    "dynamic" and "longrope" depend on the length seen, which is the greatest position + 1: keys
    that a cache holds keep the frequencies of the call that wrote them, as in the reference.

    Args:
        rope: parameters of one rotation, as `config.rope_for` returns them; a key that is present
            has a value. With `partial_rotary_factor` f the first int(f * head_dim) numbers of a
            head turn. With `llama_4_scaling_beta` b queries are multiplied with
            1 + b * log(1 + floor(position / original_max_position_embeddings)).
        max_positions: `max_position_embeddings` of the config.
        pairs: as in `Rotation`.
    """
    length = jnp.max(positions) + 1
    frequencies, scale = rope_frequencies(rope, length, head_dim, max_positions)
    angles = positions[..., None].astype(jnp.float32) * jnp.asarray(frequencies)[None, None]
    factor = None
    if beta := rope.get("llama_4_scaling_beta"):
        lengths = positions // int(rope["original_max_position_embeddings"])
        factor = 1 + beta * jnp.log1p(lengths.astype(jnp.float32))
    return Rotation(jnp.cos(angles) * scale, jnp.sin(angles) * scale, pairs, factor)


def apply_rotary(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Rotates the first numbers of each head of x [B, T, N, H], in float32; keeps its dtype."""
    cos, sin = rotation.cos[:, :, None], rotation.sin[:, :, None]
    dims = 2 * cos.shape[-1]
    head = x[..., :dims].astype(jnp.float32)
    if rotation.pairs:
        left, right = head[..., 0::2], head[..., 1::2]
    else:
        left, right = jnp.split(head, 2, axis=-1)
    turned = (left * cos - right * sin, right * cos + left * sin)
    if rotation.pairs:
        turned = jnp.stack(turned, axis=-1).reshape(head.shape)
    else:
        turned = jnp.concatenate(turned, axis=-1)
    turned = turned.astype(x.dtype)
    return turned if dims == x.shape[-1] else jnp.concatenate((turned, x[..., dims:]), axis=-1)


def rotate(q: jax.Array, k: jax.Array, rotation: Rotation) -> tuple[jax.Array, jax.Array]:
    """Rotates queries [B, T, N, H] and keys [B, T, K, H], and scales queries by their factor."""
    q, k = apply_rotary(q, rotation), apply_rotary(k, rotation)
    if rotation.query_factor is not None:
        q = q * rotation.query_factor[:, :, None, None].astype(q.dtype)
    return q, k
