"""Companions: the tensors beside a weight that say what its codes stand for."""

import collections
import dataclasses
from collections.abc import Collection, Iterable, Mapping

import jax.numpy as jnp
import numpy as np

from ...errors import CheckpointError, quoted, some
from ...formats.source import Bounds, Source, Tensor
from ..lazy import misfit, viewed

FP8 = {
    jnp.dtype(jnp.float8_e4m3fn): "float8_e4m3fn",
    jnp.dtype(jnp.float8_e5m2): "float8_e5m2",
}
"""{dtype of weights of 8-bit floats: their codes}"""
E8M0 = jnp.dtype(jnp.float8_e8m0fnu)
PLAIN = (np.dtype(np.float16), jnp.dtype(jnp.bfloat16), np.dtype(np.float32))
# Of activations, of keys and values: a weight that is decoded needs none of them.
OF_ACTIVATIONS = (
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
    """Returns scales or zero points in the shape `grid`, one for each block of a weight; axes of
    size 1 may be missing or at another place.

    Args:
        why: the blocks, for the error.

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


@dataclasses.dataclass(frozen=True)
class Positive(Tensor):
    """Scales: the tensor `whole`, which is checked when it is read. The libraries that write such
    checkpoints never write 0 or less: it would take a block of weights away, or turn it."""

    @classmethod
    def of(cls, tensor: Tensor) -> "Positive":
        return cls(tensor.name, tensor.shape, tensor.dtype, tensor.spans, whole=tensor)

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        assert self.whole is not None
        self.whole.fill(out, bounds)
        numbers = out.astype(np.float32)
        if (odd := ~(np.isfinite(numbers) & (numbers > 0))).any():
            at = np.unravel_index(int(odd.argmax()), odd.shape)
            where = tuple(int(i) + start for i, (start, _) in zip(at, bounds, strict=True))
            raise misfit(
                self,
                f"holds {numbers[at]} at {where}; a scale is a positive number: the file is "
                "damaged; get it again",
            )


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


def rewritten(source: Source, packed: Mapping[str, Tensor], used: Collection[str]) -> Source:
    """Returns a source with weights in place of what they are made of: `used`, and of activations.

    Raises:
        CheckpointError: a weight under the name of a tensor that is another one.
    """
    if twice := [name for name in packed if name in source.tensors and name not in used]:
        raise CheckpointError(
            f"{source.where}: {some(map(quoted, twice))} is there twice, quantised and not"
        )
    left = {name: x for name, x in source.tensors.items() if name not in used}
    over = {name: None for name in left if is_of_activations(name)}
    tensors = {name: x for name, x in left.items() if name not in over} | dict(packed)
    return dataclasses.replace(source, tensors=tensors, passed_over=(*source.passed_over, *over))


def is_of_activations(name: str) -> bool:
    return name.rpartition(".")[2] in OF_ACTIVATIONS


def refuse_leftover(source: Source, names: Iterable[str], what: str) -> None:
    """Raises `CheckpointError` if there are companions whose weight is not there."""
    if names := [*names]:
        tensor = source.tensors[names[0]]
        more = f"; so have {some(map(quoted, names[1:]), 4)}" if names[1:] else ""
        raise misfit(tensor, f"has no weight to go with: {what}{more}")
