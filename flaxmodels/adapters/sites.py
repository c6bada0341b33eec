"""Sites: the tensors of one module, and a leaf with those of all modules that it holds."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ..params.adapters.adapter import Base
from ..params.adapters.weight import AdaptedWeight
from ..params.errors import CheckpointError, quoted
from ..params.formats import Tensor
from ..params.quantized.qtensor import QTensor
from .modules import Module, Piece


@dataclasses.dataclass(frozen=True)
class Fields:
    """The tensors of one module.

    Attributes:
        where: of the file, for errors.
        scale: what the update is multiplied with.
    """

    where: str
    module: Module
    tensors: Mapping[str, Tensor]
    rank: int
    scale: float
    before: bool = False

    def read(self, name: str, *shape: int) -> np.ndarray:
        """Reads a tensor, which must have a shape.

        Raises:
            CheckpointError: it is not there, or has another shape, as in an adapter of another
                base, or of another rank than the configuration says.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise CheckpointError(
                f"{self.where}: {self.module.name} has {', '.join(self.tensors)} and no {name}"
            )
        if tensor.shape != shape and math.prod(tensor.shape) != math.prod(shape):
            self._refuse(tensor, shape)
        if len(tensor.shape) <= 2 and len(shape) == 2 and tensor.shape != shape:
            self._refuse(tensor, shape)
        return tensor.read().reshape(shape)

    def _refuse(self, tensor: Tensor, shape: tuple[int, ...]) -> None:
        raise CheckpointError(
            f"{self.where}: {quoted(tensor.name)} has shape {tensor.shape}; beside a weight "
            f"{self.module.shape} of the base, at rank {self.rank} as the configuration says, it "
            f"is {shape}. It is an adapter of another base, or of another configuration"
        )


@dataclasses.dataclass(frozen=True)
class Stack:
    """A leaf, and the modules that its layers are of.

    Attributes:
        leaf: an array, a quantised weight, or one with other adapters.
        sites: number of the layer, None of a leaf that is not stacked -> its piece and tensors.
    """

    leaf: Base
    sites: Mapping[int | None, tuple[Piece, Fields]]

    @property
    def base(self) -> Base:
        return self.leaf.base if isinstance(self.leaf, AdaptedWeight) else self.leaf

    def array(
        self,
        of: Callable[[Piece, Fields], np.ndarray],
        follows: tuple[int | None, ...] = (),
        absent: Callable[[int], np.ndarray] | float = 0,
    ) -> jax.Array:
        """Makes one array of the adapter: of a stacked leaf with an axis of layers in front, in
        which lower ranks are filled up with zeros.

        Args:
            of: of one layer.
            follows: for each axis, the axis of the weight that it lies on a mesh as, counted from
                the end; None for one that is whole.
            absent: what a layer without an adapter has.
        """
        found = {layer: of(*site) for layer, site in self.sites.items()}
        if None in found:
            return self.placed(found[None], follows)
        shape = tuple(map(max, zip(*(x.shape for x in found.values()), strict=True)))
        dtype = np.result_type(*(x.dtype for x in found.values()))
        whole = np.zeros((self.base.shape[0], *shape), dtype)
        for layer in range(len(whole)):
            if layer in found:
                array = found[layer]
                whole[(layer, *map(slice, array.shape))] = array
            else:
                whole[layer] = absent(layer) if callable(absent) else absent
        return self.placed(whole, (0 - len(self.base.shape), *follows))

    def scales(self) -> jax.Array:
        """Makes the scales, float32; 0 for layers without an adapter."""
        return self.array(lambda _, fields: np.asarray(fields.scale, np.float32))

    def lengths(self, layer: int) -> np.ndarray:
        """Returns the lengths of the columns of a layer of the base."""
        w = jax.tree.map(lambda x: x[layer], self.base)
        w = np.asarray(w.dense(jnp.float32) if hasattr(w, "dense") else w, np.float32)
        return np.sqrt(np.square(w).sum(tuple(range(w.ndim - 1))))

    def placed(self, array: np.ndarray, follows: tuple[int | None, ...]) -> jax.Array:
        """Puts an array beside the weight: on its mesh, if it is on one."""
        first = jax.tree.leaves(self.base)[0]
        where = getattr(first, "sharding", None)
        if not isinstance(where, jax.sharding.NamedSharding):
            return jnp.asarray(array)
        axes = (*where.spec, *[None] * (first.ndim - len(where.spec)))
        if isinstance(self.base, QTensor) and self.base.form.turned:
            axes = (*axes[:-2], *axes[-2:][::-1])
        follows = follows or (None,) * array.ndim
        spec = jax.sharding.PartitionSpec(*(None if i is None else axes[i] for i in follows))
        return jax.device_put(array, jax.sharding.NamedSharding(where.mesh, spec))
