"""Microbatches: the rows of a batch in parts, whose sums are added up by one scan."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ..params.types import PyTree


def rows_of(batch: Mapping[str, jax.Array], parts: int, lead: int = 0) -> int:
    """Returns B, how many rows a batch has.

    Args:
        parts: into how many its rows are cut: microbatches x the parts of the mesh.
        lead: the number of axes before that of the rows.

    Raises:
        ValueError: an array without rows, or with others than the rest, or rows that do not divide.
    """
    rows: dict[str, int] = {}
    for name, x in batch.items():
        if len(shape := np.shape(x)) <= lead:
            form = "[K, B, ...]" if lead else "[B, ...], as an array and no list"
            raise ValueError(f"the batch's {name} has shape {shape}: expected {form}")
        rows[name] = shape[lead]
    if len(set(rows.values())) != 1:
        sizes = ", ".join(f"{name} {size}" for name, size in rows.items())
        raise ValueError(f"the arrays of a batch have different numbers of rows: {sizes or 'none'}")
    (size,) = set(rows.values())
    if size % parts:
        raise ValueError(
            f"a batch of {size} rows does not divide into {parts} parts, accumulate x the devices "
            f"that the batch is split over; give a multiple of {parts}, or drop what is left over"
        )
    return size


def microbatches(tree: PyTree, count: int, spread: NamedSharding | None) -> PyTree:
    """Cuts arrays [B, ...] into [count, B / count, ...], each microbatch every `count`-th row.

    Rows that are on one device stay there: neighbouring rows as a microbatch would be on few.

    Args:
        spread: how the rows of a batch are sharded, if there is a mesh.
    """

    def one(x: jax.Array) -> jax.Array:
        parts = jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)
        if spread is None:
            return parts
        where = NamedSharding(spread.mesh, PartitionSpec(None, *spread.spec))
        return jax.lax.with_sharding_constraint(parts, where)

    return jax.tree.map(one, tree)


def summed(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree, PyTree]],
    parts: PyTree,
    carried: PyTree,
    sums: PyTree,
) -> tuple[PyTree, PyTree, PyTree]:
    """Runs `step` on each microbatch, one after another.

    Args:
        step: (carried, microbatch) -> (carried, what is added up, what is added up and small).
        parts: microbatches [count, ...].
        carried: what one microbatch leaves to the next.
        sums: zeros to add to, in the dtype of the sums.

    Returns:
        (what was carried last, the sums, the sums of what is small).
    """

    def body(carry: tuple[PyTree, PyTree], part: PyTree) -> tuple[tuple[PyTree, PyTree], PyTree]:
        carried, sums = carry
        carried, terms, small = step(carried, part)
        return (carried, jax.tree.map(lambda s, x: s + x.astype(s.dtype), sums, terms)), small

    (carried, sums), small = jax.lax.scan(body, (carried, sums), parts)
    return carried, sums, jax.tree.map(lambda x: x.sum(0), small)
