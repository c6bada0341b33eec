"""Rows of embedding tables that stay on the disk: those of the ids are read, and no others."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ..params.checkpoint.disk_leaf import DiskLeaf
from ..params.host.copies import empty


def tables_by_rows(leaves: Mapping[str, object]) -> tuple[str, ...]:
    """Returns the paths of tables whose rows can be read one by one: in files, as they are."""
    return tuple(
        path
        for path, leaf in leaves.items()
        if path.endswith("/embedding")
        and isinstance(leaf, DiskLeaf)
        and leaf.recipe.permutation == (0, 1)
        and jnp.issubdtype(leaf.tensor.dtype, jnp.floating)
    )


def looked_up(table: DiskLeaf, ids: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Reads the rows of ids int [...] -> [..., D] on the table's device, each row once; an id that
    has no row gives NaN, as in `blocks.Embed`."""
    rows, width = table.tensor.shape
    wanted, places = np.unique(np.asarray(ids), return_inverse=True)
    numbers = np.where(wanted < 0, wanted + rows, wanted)
    read = empty((len(wanted), width), table.tensor.dtype)
    for number, row in zip(numbers, read, strict=True):
        if 0 <= number < rows:
            row[:] = table.tensor.read(((int(number), int(number) + 1), (0, width)))[0]
        else:
            row[:] = np.nan
    array = jax.device_put(read[places.reshape(ids.shape)], table.device)
    return array.astype(table.dtype).astype(dtype)
