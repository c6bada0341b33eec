"""Dual chunks: the order of tokens in which causal attention is the same work for every device.

Of n devices along the length each holds two of 2n chunks: device i the chunks i and 2n - 1 - i, one
that few tokens are before, and one that many are before.

Dubey et al. 2024, arXiv:2407.21783, section 3.3.2.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from .mesh import parts_of

Split = tuple[tuple[str, ...], ...]


def dual_chunk_order(length: int, parts: int) -> np.ndarray:
    """Returns int32 [T], which token stands at each place.

    >>> [int(i) for i in dual_chunk_order(8, 2)]
    [0, 1, 6, 7, 2, 3, 4, 5]

    Raises:
        ValueError: a length that is not a multiple of 2 * `parts`.
    """
    _check_chunks(length, parts)
    chunks = np.arange(length, dtype=np.int32).reshape(2 * parts, -1)
    return np.stack([chunks[:parts], chunks[::-1][:parts]], axis=1).reshape(length)


def _check_chunks(length: int, parts: int) -> None:
    if parts < 1 or length < 0 or length % (2 * parts):
        raise ValueError(f"{length} tokens are not {2 * parts} chunks of one length")


def to_dual_chunks(x: jax.Array, split: Split) -> jax.Array:
    """Puts x [B, T, ...] in the order of `dual_chunk_order`: each device sends its two chunks and
    receives two.

    Args:
        split: the mesh axes over which each dimension of x is split, the length over some.

    Raises:
        ValueError: axes that the mesh of x has not, or a length that they do not split into chunks.
    """
    return _moved(_to_duals, x, split)


def from_dual_chunks(x: jax.Array, split: Split) -> jax.Array:
    """Undoes `to_dual_chunks`."""
    return _moved(_from_duals, x, split)


def _moved(move: Callable[..., jax.Array], x: jax.Array, split: Split) -> jax.Array:
    mesh, axes = jax.typeof(x).sharding.mesh, split[1] if len(split) > 1 else ()
    missing = {name for entry in split for name in entry} - {*mesh.axis_names}
    if missing or not axes or len(split) != x.ndim:
        raise ValueError(
            f"split is {split}; expected axes of the mesh of x, {mesh.axis_names}, for each "
            "dimension, some of them for the second"
        )
    spec = PartitionSpec(*(entry or None for entry in split))
    parts = parts_of(axes, mesh)
    _check_chunks(x.shape[1], parts)
    move = functools.partial(move, axes=axes, parts=parts)
    return jax.jit(jax.shard_map(move, mesh=mesh, in_specs=spec, out_specs=spec))(x)


def _to_duals(x: jax.Array, *, axes: tuple[str, ...], parts: int) -> jax.Array:
    even, odd = (
        jax.lax.ppermute(half, axes, [*enumerate(_holders(parts, i))])
        for i, half in enumerate(jnp.split(x, 2, axis=1))
    )
    return _by_parity(even, odd, axes)


def _from_duals(x: jax.Array, *, axes: tuple[str, ...], parts: int) -> jax.Array:
    first, second = jnp.split(x, 2, axis=1)
    halves = jnp.split(_by_parity(first, second, axes), 2, axis=1)
    halves = [
        jax.lax.ppermute(half, axes, [(there, j) for j, there in enumerate(_holders(parts, i))])
        for i, half in enumerate(halves)
    ]
    return jnp.concatenate(halves, axis=1)


def _holders(parts: int, odd: int) -> list[int]:
    """Returns which device holds the chunk 2j + `odd` in dual order, for each j."""
    return [min(chunk, 2 * parts - 1 - chunk) for chunk in range(odd, 2 * parts, 2)]


def _by_parity(first: jax.Array, second: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """Puts two halves one after the other; the other way around on every second device, whose first
    chunk in dual order is an odd one."""
    swapped = jax.lax.axis_index(axes) % 2 == 1
    halves = jnp.where(swapped, second, first), jnp.where(swapped, first, second)
    return jnp.concatenate(halves, axis=1)
