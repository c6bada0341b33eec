"""What formats share that have integers in words of 32 bits, and GPTQ's and AWQ's modules."""

import dataclasses
from collections.abc import Callable, Collection, Mapping

import jax.numpy as jnp
import numpy as np

from ...errors import quoted
from ...formats import Source, Tensor
from ..codes import codes_of, unpack
from ..lazy_tensors import absent, misfit
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
        raise absent(other, name.removesuffix("weight") + key)
    return tensor


def check(tensor: Tensor, kind: type[np.generic], rank: int) -> None:
    """Refuses a tensor of another dtype or rank."""
    if not jnp.issubdtype(tensor.dtype, kind) or len(tensor.shape) != rank:
        raise misfit(
            tensor,
            f"has shape {tensor.shape} and dtype {tensor.dtype}; expected {kind.__name__} of "
            f"{rank} axes",
        )


def check_groups(tensor: Tensor, groups: np.ndarray, size: int) -> None:
    """Refuses groups of the numbers of a row that are not of `size` numbers each, the last of what
    is left."""
    if not len(groups):
        return
    sizes = np.full(-(-len(groups) // size), size)
    sizes[-1] = len(groups) - size * (len(sizes) - 1)
    if groups.min() < 0 or groups.max() >= len(sizes):
        raise misfit(
            tensor,
            f"has groups {groups.min()} to {groups.max()}; there are scales of {len(sizes)}",
        )
    if ((found := np.bincount(groups, minlength=len(sizes))) != sizes).any():
        raise misfit(
            tensor,
            f"has groups of {found} numbers; expected {sizes}: check group_size of "
            "quantization_config",
        )


def bytes_of(words: np.ndarray) -> np.ndarray:
    """Returns the bytes of 32-bit words along the last axis, lowest first.

    >>> bytes_of(np.int32([[0x04030201]]))
    array([[1, 2, 3, 4]], dtype=uint8)
    """
    return np.ascontiguousarray(words).astype("<u4", copy=False).view(np.uint8)


def unpacked(data: np.ndarray, bits: int) -> np.ndarray:
    """Returns the codes in rows of bytes, the last run of which may be incomplete."""
    period = codes_of(f"uint{bits}").packed(codes_of(f"uint{bits}").group)
    pads = [(0, 0)] * (data.ndim - 1) + [(0, -data.shape[-1] % period)]
    return unpack(np.pad(data, pads), bits, -1)
