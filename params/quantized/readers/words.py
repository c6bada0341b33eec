"""What GPTQ and AWQ share: modules whose integers are in words of 32 bits, (in, out)."""

import dataclasses
from collections.abc import Callable, Collection, Mapping

import jax.numpy as jnp
import numpy as np

from ...errors import quoted
from ...formats import Source, Tensor
from ...formats.source import Bounds
from ..lazy import Computed, misfit
from ..packed import PackedTensor

Parts = Mapping[str, Tensor | None]


def with_weights(
    source: Source, keys: Collection[str], packed: Callable[[str, Parts], PackedTensor]
) -> Source:
    """Returns the source with a weight in the place of the tensors `keys` of each module that has a
    `qweight`.

    Args:
        packed: makes it of its name and the tensors by key, None for one that is not there.

    Raises:
        CheckpointError: a weight that is there too.
    """
    tensors = {**source.tensors}
    for name in source.tensors:
        module, dot, part = name.rpartition(".")
        if part != "qweight":
            continue
        parts = {key: tensors.pop(f"{module}{dot}{key}", None) for key in keys}
        weight = f"{module}{dot}weight"
        if weight in tensors:
            raise misfit(tensors[weight], f"is there beside {quoted(name)}: which is the weight?")
        tensors[weight] = packed(weight, parts)
    return dataclasses.replace(source, tensors=tensors)


def needed(key: str, name: str, parts: Mapping[str, Tensor | None]) -> Tensor:
    """Returns the tensor of a module that it cannot do without; refuses one that has none."""
    if (tensor := parts[key]) is None:
        other = next(x for x in parts.values() if x is not None)
        raise misfit(other, f"has no {quoted(name.removesuffix('weight') + key)} beside it")
    return tensor


def check(tensor: Tensor, kind: type[np.generic], rank: int) -> None:
    """Refuses a tensor of another dtype or rank."""
    if not jnp.issubdtype(tensor.dtype, kind) or len(tensor.shape) != rank:
        raise misfit(
            tensor,
            f"has shape {tensor.shape} and dtype {tensor.dtype}; expected {kind.__name__} of "
            f"{rank} axes",
        )


def turned(tensor: Tensor) -> Tensor:
    """Returns the transpose of a matrix."""

    def made(bounds: Bounds) -> np.ndarray:
        return tensor.read(bounds[::-1]).T

    return Computed.of([tensor], tensor.shape[::-1], tensor.dtype, made)
