"""Companions: the tensors beside a weight that say what its codes stand for."""

import collections
import dataclasses
from collections.abc import Collection, Iterable, Mapping

import jax.numpy as jnp
import numpy as np

from ...errors import CheckpointError, quoted, some
from ...formats.source import Source, Tensor
from ..lazy_tensors import misfit, viewed

FP8 = {
    jnp.dtype(jnp.float8_e4m3fn): "float8_e4m3fn",
    jnp.dtype(jnp.float8_e5m2): "float8_e5m2",
}
"""{dtype of weights of 8-bit floats: their codes}"""
E8M0 = jnp.dtype(jnp.float8_e8m0fnu)
PLAIN = (np.dtype(np.float16), jnp.dtype(jnp.bfloat16), np.dtype(np.float32))
# Of activations, of keys and values: a weight that is decoded needs none of them.
_OF_ACTIVATIONS = (
    *("activation_scale", "input_scale", "input_scale_ub", "input_zero_point"),
    *("input_global_scale", "output_scale", "output_zero_point"),
    *("q_scale", "k_scale", "v_scale", "q_zero_point", "k_zero_point", "v_zero_point"),
)


def as_scales(tensor: Tensor) -> Tensor:
    """Returns scales as the numbers that they are; bytes are exponents, 2 ** (byte - 127).

    Raises:
        CheckpointError: a dtype that no scale has.
    """
    if tensor.dtype == np.uint8:
        return viewed(tensor, tensor.shape, E8M0)
    if tensor.dtype not in (*PLAIN, E8M0):
        raise misfit(
            tensor, f"has dtype {tensor.dtype}; scales are float16, bfloat16, float32 or e8m0"
        )
    return tensor


def arranged(tensor: Tensor, grid: tuple[int, ...], weight: Tensor | str, why: str) -> Tensor:
    """Returns scales or zero points in the shape `grid`, one for each block of a weight, which
    `why` describes for the error; axes of size 1 may be missing or at another place.

    Raises:
        CheckpointError: another number of them.
    """
    if tensor.shape == grid:
        return tensor
    if [n for n in tensor.shape if n != 1] != [n for n in grid if n != 1]:
        name = weight if isinstance(weight, str) else weight.name
        raise misfit(
            tensor,
            f"has shape {tensor.shape}; {quoted(name)} in {why} has {grid}: check the sizes of "
            "blocks in quantization_config",
        )
    return viewed(tensor, grid)


def plain_dtype(source: Source) -> np.dtype:
    """Returns the dtype of most tensors of a checkpoint that are not quantised."""
    names = (name for name in source.tensors if "scale" not in name.rpartition(".")[2])
    dtypes = collections.Counter(source.tensors[name].dtype for name in names)
    found = [(count, dtype) for dtype, count in dtypes.items() if dtype in PLAIN]
    return max(found, key=lambda x: x[0])[1] if found else np.dtype(np.float32)


def logical_dtype(scale: Tensor, plain: np.dtype) -> np.dtype:
    """Returns the dtype that a decoded weight has: that of its scales where it is one of 16 bits,
    else `plain`."""
    is_half = scale.dtype in PLAIN and scale.dtype.itemsize == 2
    return scale.dtype if is_half else plain


def rewritten(
    source: Source,
    packed: Mapping[str, Tensor],
    used: Collection[str],
    lost: Iterable[str],
    why: str,
) -> Source:
    """Returns a source with weights in place of what they are made of: `used`, and of activations.

    Args:
        lost: names of companions; one that is not among `used` has lost its weight.
        why: a weight may not be there, for the error.

    Raises:
        CheckpointError: companions without a weight; a weight under the name of a tensor that is
            another one.
    """
    if odd := [name for name in lost if name not in used]:
        more = f"; so have {some(map(quoted, odd[1:]), 4)}" if odd[1:] else ""
        raise misfit(source.tensors[odd[0]], f"has no weight to go with: {why}{more}")
    if twice := [name for name in packed if name in source.tensors and name not in used]:
        raise CheckpointError(
            f"{source.where}: {some(map(quoted, twice))} is there twice, quantised and not"
        )
    left = {name: x for name, x in source.tensors.items() if name not in used}
    over = dict.fromkeys(name for name in left if name.rpartition(".")[2] in _OF_ACTIVATIONS)
    tensors = {name: x for name, x in left.items() if name not in over} | dict(packed)
    return dataclasses.replace(source, tensors=tensors, passed_over=(*source.passed_over, *over))
