"""Making quantised weights: codes and scales from numbers.

All of it is for arrays of NumPy and of JAX alike, and works in `jit`. The codes are those that
bitsandbytes makes of the same numbers (int8, nf4, fp4), and PyTorch's casts (float8).
"""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from ..types import Concrete
from .codes import CODEBOOKS, codes_of, module_of, pack
from .qtensor import Form, QTensor, spread

INVERSE_127 = float(np.float32(1 / 127))
"""The factor of bitsandbytes' int8, whose scales are 127 times those of the codes."""
_SCHEMES: dict[str, tuple[str, tuple[int, int], float]] = {
    "int8": ("int8", (1, -1), INVERSE_127),
    "int4": ("int4", (1, 32), 1.0),
    "nf4": ("nf4", (1, 64), 1.0),
    "fp4": ("fp4", (1, 64), 1.0),
    "float8": ("float8_e4m3fn", (1, -1), 1.0),
    "float8_block": ("float8_e4m3fn", (128, 128), 1.0),
    "float8_tensor": ("float8_e4m3fn", (-1, -1), 1.0),
}
SCHEMES = tuple(_SCHEMES)
"""Names of what can be made here."""

_FEW = 15  # limits
_TINY = np.float32(1e-38)  # bitsandbytes' least divisor


def form_of(
    scheme: str, dtype: jax.typing.DTypeLike = jnp.float32, *, turned: bool = False
) -> Form:
    """Returns the form of one of `SCHEMES`.

    Raises:
        ValueError: it is none of them.
    """
    if not isinstance(scheme, str) or scheme not in _SCHEMES:
        raise ValueError(f"unknown scheme {scheme!r}; known: {', '.join(SCHEMES)}")
    codes, block, factor = _SCHEMES[scheme]
    return Form(codes, block, jnp.dtype(dtype), turned, factor=factor)


def quantize(array: Concrete, form: Form, largest: Concrete | None = None) -> QTensor:
    """Quantises an array [..., rows, columns] that lies as its codes are stored: a scale for each
    block, from the largest magnitude in it.

    Args:
        form: with codes "int2" to "int8", of a codebook, "float8_e4m3fn" or "float8_e5m2".
        largest: the largest magnitude of each block, float32, where `array` is a part of the
            blocks; found in it if None.

    Raises:
        ValueError: codes that are not made here, or an array that they cannot hold: fewer than two
            axes, or rows that do not fill whole bytes.
    """
    found, scale = encode(array, form, largest)
    return QTensor(pack(found, codes_of(form.codes).bits, -1), scale, form=form)


def quantize_leaf(array: Concrete, form: Form) -> QTensor:
    """Quantises an array whose axes are those of the weight; as `quantize`."""
    return quantize(array.swapaxes(-1, -2) if form.turned else array, form)


def encode(
    array: Concrete, form: Form, largest: Concrete | None = None
) -> tuple[Concrete, Concrete]:
    """Returns the codes that `quantize` packs, one each element, and their scales."""
    codes = codes_of(form.codes)
    if not array.size:
        raise ValueError(f"there is nothing to quantise in shape {array.shape}")
    if array.ndim < 2:
        raise ValueError(
            f"{form.codes} is of arrays of two axes or more; the shape is {array.shape}"
        )
    if array.shape[-1] % codes.group:
        raise ValueError(
            f"{form.codes} holds rows of a multiple of {codes.group} numbers; the shape is "
            f"{array.shape}"
        )
    if codes.kind == "unsigned" or form.scale is not None or form.offset is not None:
        raise ValueError(f"{form.codes} with {form} is read from checkpoints, and not made")
    numbers = array.astype(np.float32)
    largest = _largest(abs(numbers), form.block) if largest is None else largest
    function = {"codebook": _nearest, "float": _float, "signed": _integer}[codes.kind]
    return function(numbers, largest, form)


def _nearest(numbers: Concrete, largest: Concrete, form: Form) -> tuple[Concrete, Concrete]:
    """Returns the code of the nearest number of a codebook, the lower one of two."""
    xp = module_of(numbers)
    table = np.asarray(CODEBOOKS[form.codes], np.float32)
    order = np.argsort(table, kind="stable").astype(np.uint8)
    middles = (table[order[:-1]] + table[order[1:]]) / np.float32(2)
    top = np.float32(np.abs(table).max())
    # XLA may take _TINY, which is below the least normal number, for 0.
    is_tiny = largest <= _TINY
    inverse = xp.where(is_tiny, 1 / _TINY, top / xp.where(is_tiny, 1, largest))
    normal = numbers * spread(inverse, form.block, numbers.shape)
    if isinstance(normal, np.ndarray):
        return order[_count_below(normal, middles)], _over(largest, top)
    # Compares with all, and adds up the steps from code to code, modulo 256: XLA does it in one
    # loop, where a lookup would be several times slower.
    found = xp.full(normal.shape, order[0])
    for middle, step in zip(middles, np.diff(order), strict=True):
        found = found + xp.where(normal > middle, step, np.uint8(0))
    return found, _over(largest, top)


def _count_below(numbers: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Counts for each number the limits below it, uint8. As many comparisons as there are limits
    are several times faster than a search if they are few, for NumPy does many at once."""
    if len(limits) > _FEW:
        return np.searchsorted(limits, numbers).astype(np.uint8)
    count, is_above = np.zeros(numbers.shape, np.uint8), np.empty(numbers.shape, np.bool_)
    for limit in limits:
        np.greater(numbers, limit, out=is_above)
        count += is_above.view(np.uint8)
    return count


def _integer(numbers: Concrete, largest: Concrete, form: Form) -> tuple[Concrete, Concrete]:
    """Returns integers that are symmetric about 0; those of fewer than 8 bits as their codes."""
    xp, bits = module_of(numbers), codes_of(form.codes).bits
    top = np.float32((1 << (bits - 1)) - 1)
    if form.factor != 1:
        numbers, largest = map(_through_float16, (numbers, largest))
    inverse = top / xp.where(largest == 0, np.float32(1), largest)
    found = xp.round(numbers * spread(inverse, form.block, numbers.shape)).astype(np.int8)
    scale = largest if form.factor != 1 else _over(largest, top)
    return (found if bits == 8 else found.view(np.uint8) & ((1 << bits) - 1)), scale


def _float(numbers: Concrete, largest: Concrete, form: Form) -> tuple[Concrete, Concrete]:
    xp, dtype = module_of(numbers), codes_of(form.codes).stored
    top = np.float32(ml_dtypes.finfo(dtype).max)
    scale = xp.where(largest == 0, np.float32(1), _over(largest, top))
    normal = xp.clip(_over(numbers, spread(scale, form.block, numbers.shape)), -top, top)
    return normal.astype(dtype), scale


def _through_float16(numbers: Concrete) -> Concrete:
    """Rounds to float16, as bitsandbytes does before it quantises to int8; numbers that float16 has
    not stay as they are."""
    half = numbers.astype(np.float16)
    if isinstance(half, jax.Array):  # XLA would leave out a cast that another undoes
        half = jax.lax.optimization_barrier(half)
    return module_of(numbers).where(abs(numbers) < 65504, half.astype(np.float32), numbers)


def _over(x: Concrete, divisor: Concrete | np.floating) -> Concrete:
    """Divides by a constant, or by numbers that are repeated, as NumPy does. XLA would multiply
    with the inverse, so it gets a divisor that it cannot know to be one of these."""
    return x / (divisor if module_of(x) is np else jnp.where(x == x, divisor, x))


def _largest(sizes: Concrete, block: tuple[int, int]) -> Concrete:
    """Returns the largest number of each block; those of the edges may be smaller. It is not finite
    if one of them is not: XLA's maximum on a CPU passes NaN over, and never infinity."""
    xp = module_of(sizes)
    if xp is jnp:
        sizes = jnp.where(jnp.isnan(sizes), jnp.inf, sizes)
    for axis, size in zip((-2, -1), block, strict=True):
        width = sizes.shape[axis]
        if size == 1:
            continue
        size = width if size < 0 else size
        if odd := -width % size:
            pads = [(0, 0)] * sizes.ndim
            pads[axis] = (0, odd)
            sizes = xp.pad(sizes, pads)
        here = axis % sizes.ndim
        shape = (*sizes.shape[:here], -1, size, *sizes.shape[here + 1 :])
        sizes = sizes.reshape(shape)
        while xp is np and axis == -1 and sizes.shape[-1] % 2 == 0:
            half = sizes.shape[-1] // 2  # several times faster than NumPy's maximum of short rows
            sizes = np.maximum(sizes[..., :half], sizes[..., half:])
        sizes = sizes.max(here + 1)
    return sizes
