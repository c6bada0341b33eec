"""Where a batch goes: which of its rows a process reads, and on which devices they are."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from .. import sharding as fs
from ..sharding.presets import names_of
from ..sharding.reports import parts_of
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
        mesh = fs.check_mesh(mesh)
        spec = fs.partition_spec(("batch",), (0,), mesh, rules)
        names = names_of(spec[0] if len(spec) else None)
        self.parts = parts_of(names, mesh)
        self._sharding = NamedSharding(mesh, spec)
        if batch_size % self.parts:
            raise ValueError(
                f"batch_size={batch_size} is not divided by the {self.parts} parts into which the "
                f"mesh cuts a batch (axes {', '.join(names)}): give a multiple of {self.parts}"
            )

    def rows(self, size: int) -> list[int]:
        """Returns which rows of a batch of `size` the devices of this process have, in order."""
        found: set[int] = set()
        for index in self._sharding.addressable_devices_indices_map((size,)).values():
            rows = slice(None) if index is None else index[0]
            found.update(range(*rows.indices(size)))
        return sorted(found)

    def put(self, batch: Batch, rows: Sequence[int], size: int) -> dict[str, jax.Array]:
        """Makes global arrays [size, ...] of a batch that has `rows` of them."""
        if len(rows) == size and self._sharding.is_fully_addressable:
            return jax.device_put(batch, self._sharding)
        place = np.full(size, -1)
        place[list(rows)] = np.arange(len(rows))

        def one(x: np.ndarray) -> jax.Array:
            shard = lambda index: x[place[index[0]]]  # noqa: E731
            return jax.make_array_from_callback((size, *x.shape[1:]), self._sharding, shard)

        return {name: one(x) for name, x in batch.items()}
