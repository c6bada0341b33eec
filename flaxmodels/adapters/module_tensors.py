"""Sites: the tensors of one module, and a leaf with those of all modules that it holds."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from ..params.adapters.adapted_weight import base_of
from ..params.adapters.adapter import Base
from ..params.adapters.initial_values import Follows, placed
from ..params.adapters.lora import wide_dense
from ..params.errors import CheckpointError, quoted
from ..params.formats import Tensor
from .torch_modules import Module, Piece


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
        is_matrix = len(tensor.shape) <= 2 and len(shape) == 2
        if tensor.shape != shape and (is_matrix or math.prod(tensor.shape) != math.prod(shape)):
            raise CheckpointError(
                f"{self.where}: {quoted(tensor.name)} has shape {tensor.shape}; beside a weight "
                f"{self.module.shape} of the base, at rank {self.rank} as the configuration says, "
                f"it is {shape}. It is an adapter of another base, or of another configuration"
            )
        return tensor.read().reshape(shape)


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
        return base_of(self.leaf)

    def array(
        self,
        of: Callable[[Piece, Fields], np.ndarray],
        follows: Follows = (),
        absent: Callable[[int], np.ndarray] | float = 0,
    ) -> jax.Array:
        """Makes one array of the adapter: of a stacked leaf with an axis of layers in front, in
        which lower ranks are filled up with zeros.

        Args:
            of: of one layer.
            follows: for each axis but that of layers; all are whole if none is given.
            absent: what a layer without an adapter has.
        """
        found = {layer: of(*site) for layer, site in self.sites.items()}
        follows = follows or (None,) * next(iter(found.values())).ndim
        if None in found:
            return placed(found[None], self.base, follows)
        shape = tuple(map(max, zip(*(x.shape for x in found.values()), strict=True)))
        dtype = np.result_type(*(x.dtype for x in found.values()))
        whole = np.zeros((self.base.shape[0], *shape), dtype)
        for layer in range(len(whole)):
            if layer in found:
                array = found[layer]
                whole[(layer, *map(slice, array.shape))] = array
            else:
                whole[layer] = absent(layer) if callable(absent) else absent
        return placed(whole, self.base, (-self.base.ndim, *follows))

    def scales(self) -> jax.Array:
        """Makes the scales, float32; 0 for layers without an adapter."""
        return self.array(lambda _, fields: np.asarray(fields.scale, np.float32))

    def lengths(self, layer: int) -> np.ndarray:
        """Returns the lengths of the columns of a layer of the base."""
        w = np.asarray(wide_dense(jax.tree.map(lambda x: x[layer], self.base)))
        return np.sqrt(np.square(w).sum(tuple(range(w.ndim - 1))))
