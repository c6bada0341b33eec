"""Weights of compressed-tensors: from the tensors of a module to one packed tensor."""

import functools
import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from ...errors import CheckpointError, quoted
from ...formats.source import ArrayTensor, Bounds, Tensor
from ..codes import codes_of, pack
from ..lazy_tensors import Checked, Computed, Scales, absent, misfit, viewed
from ..packed import PackedTensor, packed_tensor
from ..qtensor import Form
from .companions import FP8, arranged, as_scales
from .int32_words import bytes_of, check_groups, unpacked
from .schemes import MXFP4, MXFP8, NVFP4, PACKED, Scheme

PARTS = (
    *("weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape"),
    *("weight_g_idx", "weight_global_scale"),
)
_E4M3 = jnp.dtype(jnp.float8_e4m3fn)
_WORD = 32  # bits

Parts = Mapping[str, Tensor]


def weight_of(name: str, parts: Parts, schemes: Sequence[Scheme], dtype: np.dtype) -> PackedTensor:
    """Returns the weight of a module.

    Args:
        name: of the weight.
        parts: those of `PARTS` that there are, "weight_scale" among them.
        schemes: of which one is the module's: the first that fits.
        dtype: the logical one.

    Raises:
        CheckpointError: none fits; what does not fit the first, with file and tensor.
    """
    errors = []
    for scheme in schemes:
        try:
            return _weight(name, parts, scheme, dtype)
        except CheckpointError as error:
            errors.append(error)
    raise errors[0]


def _weight(name: str, parts: Parts, scheme: Scheme, dtype: np.dtype) -> PackedTensor:
    wanted = "weight_packed" if scheme.format in (PACKED, NVFP4, MXFP4) else "weight"
    if wanted not in parts:
        (other,) = {"weight", "weight_packed"} & parts.keys()
        raise misfit(
            parts[other],
            f"is not stored as {scheme.format}, as {quoted(scheme.group)} of config_groups says: "
            f"expected {quoted(name.removesuffix('weight') + wanted)}",
        )
    weight = parts[wanted]
    if len(weight.shape) < 2:
        raise misfit(weight, f"has shape {weight.shape}; expected rows and columns")
    perm = None
    if scheme.format == PACKED:
        columns = _columns(weight, parts, scheme)
        order = _order(parts, columns, scheme)
        codes, data = integers(weight, scheme.bits, columns, order)
        if order is not None:
            each = np.broadcast_to(order, (*weight.shape[:-2], columns))
            perm = ArrayTensor(parts["weight_g_idx"].name, each.shape, each.dtype, array=each)
    else:
        codes, data = _as_stored(weight, scheme)
    form = Form(codes, scheme.block, dtype)
    grid = form.blocks(form.stored(data.shape))
    fields = {
        "data": data,
        "scale": _scale(parts, grid, weight, scheme),
        "zero": _zero(parts, grid, weight, scheme),
        "perm": perm,
    }
    return packed_tensor(name, fields, form, scales=Scales.POSITIVE)


def _columns(packed: Tensor, parts: Parts, scheme: Scheme) -> int:
    """Returns how many numbers a row of packed words holds."""
    words = packed.shape[-1]
    if packed.dtype != np.int32:
        raise misfit(packed, f"has dtype {packed.dtype}; expected int32")
    if (shape := parts.get("weight_shape")) is None:
        if scheme.block[1] < 1:
            raise absent(packed, "weight_shape")
        found = (*packed.shape[:-1], parts["weight_scale"].shape[-1] * scheme.block[1])
    else:
        if shape.dtype.kind not in "iu" or shape.shape != (len(packed.shape),):
            raise misfit(
                shape,
                f"is {shape.dtype}{list(shape.shape)}; expected {len(packed.shape)} integers",
            )
        found = tuple(int(n) for n in shape.read())
    if found[:-1] != packed.shape[:-1] or -(-found[-1] * scheme.bits // _WORD) != words:
        raise misfit(
            shape or packed,
            f"says that the weight is {found}, and {quoted(packed.name)} of shape {packed.shape} "
            f"holds {packed.shape[:-1]} rows of {words} words for numbers of {scheme.bits} bits: "
            "check num_bits; releases up to 0.15 leave bits of words unused, which is not read",
        )
    return found[-1]


def integers(
    packed: Tensor, bits: int, columns: int, order: np.ndarray | None = None
) -> tuple[str, Tensor]:
    """Returns rows of words as signed integers: the name of their codes, and the codes.

    Args:
        packed: int32 [..., words]: a stream of bits of numbers + 2 ** (bits - 1).
        columns: of numbers.
        order: number i of the result is number order[i] of a row.
    """
    half, kind = 1 << (bits - 1), codes_of(f"int{bits}")
    data = viewed(packed, (*packed.shape[:-1], packed.shape[-1] * 4), np.dtype(np.uint8))
    is_whole = columns % kind.group == 0
    front = packed.shape[:-1]
    if is_whole and order is None:
        flip = _highest_bits(bits, columns)

        def flipped(bounds: Bounds) -> np.ndarray:
            return (data.read(bounds) ^ flip[slice(*bounds[-1])]).view(kind.stored)

        shape = (*front, len(flip))
        return kind.name, Computed.of([packed], shape, kind.stored, flipped)
    # Rows that end within a byte are kept in a byte a number.
    held = kind if is_whole else codes_of("int8")

    def apart(bounds: Bounds) -> np.ndarray:
        found = data.read((*bounds[:-1], (0, data.shape[-1])))
        numbers = unpacked(found, bits)[..., :columns]
        numbers = numbers if order is None else numbers[..., order]
        if held.bits < 8:
            return pack(numbers ^ np.uint8(half), bits, -1)[..., slice(*bounds[-1])]
        return (numbers - np.uint8(half)).view(np.int8)[..., slice(*bounds[-1])]

    shape = (*front, held.packed(columns))
    return held.name, Computed.of([packed], shape, held.stored, apart)


@functools.lru_cache(maxsize=16)
def _highest_bits(bits: int, columns: int) -> np.ndarray:
    """Returns a row of bytes with the highest bit of each number set: two's complement has it the
    other way round."""
    period = pack(np.full(codes_of(f"int{bits}").group, 1 << (bits - 1), np.uint8), bits, -1)
    return np.resize(period, codes_of(f"int{bits}").packed(columns))


def _order(parts: Parts, columns: int, scheme: Scheme) -> np.ndarray | None:
    """Returns the columns by their groups; None where they are in that order."""
    if (groups := parts.get("weight_g_idx")) is None:
        return None
    size = scheme.block[1]
    if size < 1 or groups.dtype.kind not in "iu" or groups.shape != (columns,):
        raise misfit(
            groups,
            f"is {groups.dtype}{list(groups.shape)}; expected the group of each of {columns} "
            "columns, where there are groups",
        )
    found = groups.read().astype(np.int64)
    if not columns or (found == -1).any():  # as it is made, and nothing was put in
        return None
    check_groups(groups, found, size)
    return np.argsort(found, kind="stable").astype(np.int32)


def _as_stored(weight: Tensor, scheme: Scheme) -> tuple[str, Tensor]:
    """Returns codes that are stored as they are held."""
    if scheme.format in (NVFP4, MXFP4):
        codes, expected = "e2m1", (np.dtype(np.uint8),)
    elif scheme.kind == "int":
        codes, expected = "int8", (np.dtype(np.int8),)
    else:
        codes, expected = FP8.get(weight.dtype, ""), tuple(FP8)
    if weight.dtype not in expected:
        raise misfit(
            weight,
            f"has dtype {weight.dtype}; {quoted(scheme.group)} of config_groups says "
            f"{scheme.format} of {scheme.bits} bits: expected {' or '.join(map(str, expected))}",
        )
    return codes, weight


def _scale(parts: Parts, grid: tuple[int, ...], weight: Tensor, scheme: Scheme) -> Tensor:
    scale, whole = parts["weight_scale"], parts.get("weight_global_scale")
    why = f"blocks of {scheme.block}"
    if scheme.format == NVFP4:
        if whole is None:
            raise absent(scale, "weight_global_scale")
        return nvfp4_scale(arranged(scale, grid, weight, why), whole, divides=True)
    if whole is not None:
        raise misfit(whole, f"is there, and {quoted(scheme.group)} is {scheme.format}: no {NVFP4}")
    if scale.dtype.itemsize == 1 and scheme.format not in (MXFP4, MXFP8):
        raise misfit(scale, f"has dtype {scale.dtype}, which {scheme.format} has not")
    return arranged(as_scales(scale), grid, weight, why)


def nvfp4_scale(scale: Tensor, whole: Tensor, *, divides: bool) -> PackedTensor:
    """Returns the scales of NVFP4, which are quantised themselves: float8_e4m3fn with one scale.

    Args:
        whole: that scale, of all of a tensor.
        divides: whether scales are divided by it. Its reciprocal is kept, so that they may differ
            by one in the last place of float32.
    """
    if scale.dtype != _E4M3:
        raise misfit(scale, f"has dtype {scale.dtype}; the scales of NVFP4 are {_E4M3}")
    one = (*scale.shape[:-2], 1, 1)
    if whole.dtype != np.float32 or math.prod(whole.shape) != math.prod(one):
        raise misfit(whole, f"is {whole.dtype}{list(whole.shape)}; expected one float32")
    whole = viewed(whole, one)
    if divides:
        divisor = whole

        def inverse(bounds: Bounds) -> np.ndarray:
            with np.errstate(divide="ignore"):
                return np.float32(1) / divisor.read(bounds)

        whole = Computed.of([whole], one, whole.dtype, inverse)
    form = Form(FP8[_E4M3], (-1, -1), np.dtype(np.float32))
    data = Checked.of(scale, Scales.FINITE.check)
    fields = {"data": data, "scale": whole}
    return packed_tensor(scale.name, fields, form, scales=Scales.POSITIVE)


def _zero(parts: Parts, grid: tuple[int, ...], weight: Tensor, scheme: Scheme) -> Tensor | None:
    """Returns zero points in the shape of the scales."""
    zero = parts.get("weight_zero_point")
    if zero is None:
        if not scheme.is_symmetric:
            raise misfit(
                weight,
                f"has no weight_zero_point beside it, and {quoted(scheme.group)} of config_groups "
                "is not symmetric: a tensor is missing; get the checkpoint again",
            )
        return None
    by_row = scheme.block[0] == 1
    if scheme.format == PACKED and by_row and not scheme.is_symmetric:
        return _packed_zero(zero, scheme.bits, grid)
    return arranged(zero, grid, weight, f"blocks of {scheme.block}")


def _packed_zero(zero: Tensor, bits: int, grid: tuple[int, ...]) -> Tensor:
    """Returns zero points that are packed as the weight is, but along the rows."""
    *front, rows, columns = grid
    words = -(-rows * bits // _WORD)
    if zero.dtype != np.int32 or zero.shape != (*front, words, columns):
        raise misfit(
            zero,
            f"is {zero.dtype}{list(zero.shape)}; {rows} rows of zero points of {bits} bits are "
            f"int32{[*front, words, columns]}",
        )

    def made(bounds: Bounds) -> np.ndarray:
        first, last = bounds[-2]
        begin = first // _WORD * bits  # 32 numbers are `bits` words
        end = min(words, -(-last // _WORD) * bits)
        found = zero.read((*bounds[:-2], (begin, end), bounds[-1])).swapaxes(-1, -2)
        numbers = unpacked(bytes_of(found), bits)
        numbers = numbers[..., first - begin // bits * _WORD :][..., : last - first]
        return (numbers - np.uint8(1 << (bits - 1))).view(np.int8).swapaxes(-1, -2)

    return Computed.of([zero], grid, np.dtype(np.int8), made)
