"""Codes: how a number of a quantised weight is stored, in 2 to 8 bits.

All functions here are for arrays of NumPy and of JAX alike, traced ones too.
"""

import dataclasses
import functools
import math
import re
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from ..types import Concrete

A = TypeVar("A", np.ndarray, jax.Array, Concrete)

_INTEGER = re.compile(r"(u?)int([2-8])")
_FLOATS = ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")

# The quantiles of a normal distribution of Dettmers et al. 2023 (QLoRA), in float32.
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
# bitsandbytes' float of a sign, two bits of exponent and one of mantissa; the largest is 1.
_FP4 = tuple(float(np.float32(x) / np.float32(12)) for x in (0, 0.0625, 8, 12, 4, 6, 2, 3))
# The OCP's (MXFP4, NVFP4): sign, two bits of exponent, one of mantissa.
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _dynamic8() -> tuple[float, ...]:
    """Computes bitsandbytes' 256 numbers of a sign, a decimal exponent and a fraction (Dettmers
    2015), which scales of scales have: from 0.1 to 1, 2**i steps for the exponent i - 6."""
    found = [0.0, 1.0]
    for i in range(7):
        count = 1 << i
        # Each step is rounded once, as torch.linspace does it with fused multiply-adds.
        step, k = np.float64(np.float32(np.float32(0.9) / np.float32(count))), np.arange(count + 1)
        up, down = np.float32(0.1) + step * k, 1 - step * (count - k)
        edges = np.where(k < (count + 1) // 2, up, down).astype(np.float32)
        middles = (edges[:-1] + edges[1:]) / np.float32(2) * np.float32(10.0 ** (i - 6))
        found += [*middles.tolist(), *(-middles).tolist()]
    return tuple(sorted(found))


CODEBOOKS = {
    "nf4": NF4,
    "fp4": (*_FP4, 0.0, *(-x for x in _FP4[1:])),
    "e2m1": (*_E2M1, *(-x for x in _E2M1)),
    "dynamic8": _dynamic8(),
}
"""The number of each code, of four bits or of eight."""


@dataclasses.dataclass(frozen=True)
class Codes:
    """One way to store a number.

    Attributes:
        bits: of a number.
        kind: "signed" (two's complement), "unsigned", "float" or "codebook".
    """

    name: str
    bits: int
    kind: str

    @property
    def stored(self) -> np.dtype:
        """The dtype of the array that holds codes: that of numbers of 8 bits, else bytes."""
        if self.kind == "codebook":
            return np.dtype(np.uint8)
        return np.dtype(getattr(ml_dtypes, self.name, self.name) if self.bits == 8 else np.uint8)

    @property
    def group(self) -> int:
        """How many numbers fill whole bytes: a packed axis is a multiple of it."""
        return 8 // math.gcd(8, self.bits)

    def packed(self, size: int) -> int:
        """Returns how many elements of `stored` hold `size` numbers."""
        return size * self.bits // 8

    def unpacked(self, size: int) -> int:
        """Returns how many numbers `size` elements of `stored` hold."""
        return size * 8 // self.bits


@functools.cache
def codes_of(name: str) -> Codes:
    """Returns what a name of codes means.

    Raises:
        ValueError: it means nothing; the known names are listed.
    """
    if match := _INTEGER.fullmatch(name):
        return Codes(name, int(match[2]), "unsigned" if match[1] else "signed")
    if name in CODEBOOKS:
        return Codes(name, len(CODEBOOKS[name]).bit_length() - 1, "codebook")
    if name in _FLOATS:
        return Codes(name, 8, "float")
    known = ["int2 to int8", "uint2 to uint8", *CODEBOOKS, *_FLOATS]
    raise ValueError(f"unknown codes {name!r}; known: {', '.join(known)}")


def unpack(data: A, bits: int, axis: int) -> A:
    """Returns the codes, uint8, of a stream of bits along an axis: the first code is in the lowest
    bits of the first byte, and a code may go on in the lowest bits of the next one.

    >>> unpack(np.uint8([0x21, 0x43]), 4, -1)
    array([1, 2, 3, 4], dtype=uint8)
    """
    if bits == 8:
        return data
    xp, axis = module_of(data), axis % data.ndim
    count, width = _period(bits)
    front, back = data.shape[:axis], data.shape[axis + 1 :]
    runs = data.reshape(*front, -1, width, *back)
    low = (slice(None),) * (axis + 1)

    def code(i: int) -> Concrete:
        byte, shift = divmod(i * bits, 8)
        found = runs[(*low, byte)] >> shift
        if shift + bits > 8:
            found = found | runs[(*low, byte + 1)] << (8 - shift)
        return found & ((1 << bits) - 1)

    found = xp.stack([code(i) for i in range(count)], axis + 1)
    return found.reshape(*front, -1, *back)


def pack(codes: A, bits: int, axis: int) -> A:
    """Returns the stream of bits of `codes`, uint8 below 2**bits; `unpack` inverts it.

    >>> [hex(x) for x in pack(np.uint8([1, 2, 3, 4]), 4, -1)]
    ['0x21', '0x43']
    """
    if bits == 8:
        return codes
    xp, axis = module_of(codes), axis % codes.ndim
    if isinstance(codes, np.ndarray) and bits == 4 and axis == codes.ndim - 1:
        # The second code of two is 8 bits up, and goes down by 4.
        pairs: Any = np.ascontiguousarray(codes).view("<u2")
        return (pairs | pairs >> 4).astype(np.uint8)
    count, width = _period(bits)
    front, back = codes.shape[:axis], codes.shape[axis + 1 :]
    runs = codes.reshape(*front, -1, count, *back)
    low = (slice(None),) * (axis + 1)

    def byte(i: int) -> Concrete:
        """Puts together the codes that have bits in byte `i` of a run."""
        first, last = i * 8 // bits, (i * 8 + 7) // bits
        parts = []
        for j in range(first, last + 1):
            shift = j * bits - i * 8
            part = runs[(*low, j)]
            parts.append(part << shift if shift >= 0 else part >> -shift)
        return functools.reduce(lambda a, b: a | b, parts)

    found = xp.stack([byte(i) for i in range(width)], axis + 1)
    return found.reshape(*front, -1, *back)


def decode(codes: Concrete, name: str) -> Concrete:
    """Returns the numbers that unpacked codes mean, float32."""
    xp, kind = module_of(codes), codes_of(name)
    if kind.kind == "codebook":
        table = np.asarray(CODEBOOKS[name], np.float32)
        return table[codes] if xp is np else jnp.take(table, codes, axis=0, mode="clip")
    if kind.kind == "signed" and kind.bits < 8:
        half = 1 << (kind.bits - 1)
        codes = (codes ^ half).astype(np.int8) - xp.int8(half)
    if isinstance(codes, np.ndarray) and name in _SHIFTS:
        return _floats(codes, *_SHIFTS[name])
    return codes.astype(np.float32)


# {8-bit floats: bits to shift them by to where float32 has exponent and mantissa, the difference
# of the exponents, and the least that is no number}
_SHIFTS = {"float8_e4m3fn": (20, 120, 0x7F), "float8_e5m2": (21, 112, 0x7C)}


def _floats(codes: np.ndarray, shift: int, exponent: int, odd: int) -> np.ndarray:
    """Returns 8-bit floats as float32, in a tenth of the time that NumPy's cast takes."""
    bits = codes.view(np.uint8)
    magnitude = bits & np.uint8(0x7F)
    if magnitude.max(initial=0) >= odd:
        return codes.astype(np.float32)
    found = magnitude.astype(np.uint32) << np.uint32(shift)
    found |= (bits & np.uint8(0x80)).astype(np.uint32) << np.uint32(24)
    return found.view(np.float32) * np.float32(2.0**exponent)


def _period(bits: int) -> tuple[int, int]:
    """Returns how many codes fill how many bytes."""
    count = 8 // math.gcd(8, bits)
    return count, count * bits // 8


def module_of(array: object) -> Any:
    """Returns the library that computes with an array: NumPy or JAX's."""
    return jnp if isinstance(array, jax.Array) else np
