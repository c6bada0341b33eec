"""Where a batch goes: which of its rows a process reads, and on which devices they are."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .. import sharding as fs
from .collate import Batch


class Placement:
    """Spreads batches over a mesh, by the rule of the logical axis "batch".

    Attributes:
        parts: into how many the rows of a batch are cut.
    """

    def __init__(self, mesh: Mesh, rules: object, batch_size: int):
        """Decides what is where.

        Raises:
            ValueError: a number of rows that the mesh does not divide.
        """
        self._mesh = fs.check_mesh(mesh)
        axes = fs.partition_spec(("batch",), (0,), self._mesh, rules)
        self._axes = axes[0] if len(axes) else None
        names = (self._axes,) if isinstance(self._axes, str) else tuple(self._axes or ())
        self.parts = int(np.prod([self._mesh.shape[name] for name in names]))
        if batch_size % self.parts:
            raise ValueError(
                f"batch_size={batch_size} is not divided by the {self.parts} parts into which the "
                f"mesh cuts a batch (axes {', '.join(names)}): give a multiple of {self.parts}"
            )

    def rows(self, size: int) -> list[int]:
        """Returns which rows of a batch of `size` the devices of this process have, in order."""
        sharding = NamedSharding(self._mesh, PartitionSpec(self._axes))
        found: set[int] = set()
        for index in sharding.addressable_devices_indices_map((size,)).values():
            rows = slice(None) if index is None else index[0]
            found.update(range(*rows.indices(size)))
        return sorted(found)

    def put(self, batch: Batch, rows: Sequence[int], size: int) -> dict[str, jax.Array]:
        """Makes global arrays [size, ...] of a batch that has `rows` of them."""
        return {name: self._put(x, rows, size) for name, x in batch.items()}

    def _put(self, x: np.ndarray, rows: Sequence[int], size: int) -> jax.Array:
        sharding = NamedSharding(self._mesh, PartitionSpec(self._axes))
        if len(rows) == size and sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        place = np.full(size, -1)
        place[list(rows)] = np.arange(len(rows))

        def shard(index: Any) -> np.ndarray:
            return x[place[index[0]]]

        return jax.make_array_from_callback((size, *x.shape[1:]), sharding, shard)
