"""GGUF: blocks of quantised numbers become the arrays of a `QTensor`.

A row is a run of blocks. A block holds the codes of its numbers and their scales together; they
are taken apart here, codes in the order of the numbers, scales beside. The blocks of K-quants have
for each run of 16 or 32 numbers a scale (and an offset) that is quantised itself. Layouts:
`ggml-quants.h` and `ggml-quants.c` of https://github.com/ggml-org/ggml.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from ...formats.bounds import chunks
from ...formats.gguf.types import BlockTensor
from ...formats.source import Bounds, Source, Tensor
from ..codes import codes_of, pack
from ..packed import PackedTensor, packed_tensor
from ..qtensor import Form

_AT_ONCE = 1 << 17  # numbers: their temporaries stay in the cache
_READ_AT_ONCE = 4 << 20  # bytes; each read of a remote file is a request

Read = Callable[[np.ndarray], np.ndarray]
"""Takes blocks apart: bytes [blocks, bytes] -> [blocks, numbers]."""


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Numbers of a block that are as they are.

    Attributes:
        count: of numbers in a block.
    """

    dtype: np.dtype
    count: int
    read: Read


@dataclasses.dataclass(frozen=True)
class Quantized:
    """Numbers of a block that stand for `code * scale - offset`.

    Attributes:
        codes: how they are stored in a `QTensor`.
        count: of numbers in a block.
        read: -> codes, uint8 and one a byte, or int8 where that is how they are stored.
    """

    codes: str
    count: int
    read: Read
    scale: "Numbers | Quantized"
    offset: "Numbers | Quantized | None" = None


def _half(at: int, *, negated: bool = False) -> Numbers:
    """Reads the float16 at byte `at`."""

    def read(blocks: np.ndarray) -> np.ndarray:
        halves = np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2")
        return -halves if negated else halves

    return Numbers(np.dtype(np.float16), 1, read)


def _spread(data: np.ndarray, run: int, bits: int) -> np.ndarray:
    """Returns the codes of `bits` in bytes of which each run of `run` bytes holds first the lowest
    bits of all of them, then the next ones: [blocks, bytes] -> [blocks, codes]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    runs = data.reshape(len(data), -1, 1, run) >> shifts
    return (runs & np.uint8((1 << bits) - 1)).reshape(len(data), -1)


def _nibbles(at: int, *, flip: int = 0) -> Read:
    """Reads 32 codes of 4 bits from byte `at`; `flip` turns n + flip into two's complement."""
    return lambda blocks: _spread(blocks[:, at : at + 16], 16, 4) ^ np.uint8(flip)


def _five_bits(at: int, *, flip: int = 0) -> Read:
    """Reads 32 codes of 5 bits: the highest bits of all are in the 4 bytes at `at`."""

    def read(blocks: np.ndarray) -> np.ndarray:
        high = _spread(blocks[:, at : at + 4], 1, 1)
        return (_spread(blocks[:, at + 4 : at + 20], 16, 4) | high << 4) ^ np.uint8(flip)

    return read


def _signed_bytes(at: int, count: int) -> Read:
    return lambda blocks: blocks[:, at : at + count].view(np.int8)


def _k_scales(at: int, *, minima: bool = False) -> Quantized:
    """Reads the 8 scales, or minima, of Q4_K and Q5_K, whose 6 bits each are in the 12 bytes from
    byte 4 on; their own scale is at byte `at`."""

    def read(blocks: np.ndarray) -> np.ndarray:
        scales, mins, rest = (blocks[:, i : i + 4] for i in (4, 8, 12))
        first, low = (mins, rest >> 4) if minima else (scales, rest & 15)
        return np.concatenate([first & 63, low | (first >> 2 & 48)], axis=1)

    return Quantized("uint6", 8, read, _half(at))


def _q3_scales(blocks: np.ndarray) -> np.ndarray:
    low, high = _spread(blocks[:, 96:104], 8, 4), _spread(blocks[:, 104:108], 4, 2)
    return (low | high << 4) ^ np.uint8(32)


def _q3_codes(blocks: np.ndarray) -> np.ndarray:
    high, low = _spread(blocks[:, :32], 32, 1), _spread(blocks[:, 32:96], 32, 2)
    return (low | high << 2) ^ np.uint8(4)


def _q5_codes(blocks: np.ndarray) -> np.ndarray:
    high, low = _spread(blocks[:, 16:48], 32, 1), _spread(blocks[:, 48:176], 32, 4)
    return low | high << 4


def _q6_codes(blocks: np.ndarray) -> np.ndarray:
    low, high = _spread(blocks[:, :128], 64, 4), _spread(blocks[:, 128:192], 32, 2)
    return (low | high << 4) ^ np.uint8(32)


def _mx_codes(blocks: np.ndarray) -> np.ndarray:
    codes = _spread(blocks[:, 1:17], 16, 4)
    return np.where(codes == 8, np.uint8(0), codes)  # ggml has no -0


_E8M0 = jnp.dtype(jnp.float8_e8m0fnu)

NUMBERS = {
    "Q4_0": Quantized("int4", 32, _nibbles(2, flip=8), _half(0)),
    "Q4_1": Quantized("uint4", 32, _nibbles(4), _half(0), _half(2, negated=True)),
    "Q5_0": Quantized("int5", 32, _five_bits(2, flip=16), _half(0)),
    "Q5_1": Quantized("uint5", 32, _five_bits(4), _half(0), _half(2, negated=True)),
    "Q8_0": Quantized("int8", 32, _signed_bytes(2, 32), _half(0)),
    "Q2_K": Quantized(
        "uint2",
        256,
        lambda blocks: _spread(blocks[:, 16:80], 32, 2),
        Quantized("uint4", 16, lambda blocks: blocks[:, :16] & 15, _half(80)),
        Quantized("uint4", 16, lambda blocks: blocks[:, :16] >> 4, _half(82)),
    ),
    "Q3_K": Quantized("int3", 256, _q3_codes, Quantized("int6", 16, _q3_scales, _half(108))),
    "Q4_K": Quantized(
        "uint4",
        256,
        lambda blocks: _spread(blocks[:, 16:144], 32, 4),
        _k_scales(0),
        _k_scales(2, minima=True),
    ),
    "Q5_K": Quantized("uint5", 256, _q5_codes, _k_scales(0), _k_scales(2, minima=True)),
    "Q6_K": Quantized(
        "int6", 256, _q6_codes, Quantized("int8", 16, _signed_bytes(192, 16), _half(208))
    ),
    "MXFP4": Quantized("e2m1", 32, _mx_codes, Numbers(_E8M0, 1, lambda b: b[:, :1].view(_E8M0))),
}
"""{name of a type of blocks: what they hold}."""


def read_gguf(source: Source) -> Source:
    """Returns the source with blocks as packed tensors, in float32."""
    tensors = {
        name: _quantized(x, NUMBERS[x.block.name]) if isinstance(x, BlockTensor) else x
        for name, x in source.tensors.items()
    }
    return dataclasses.replace(source, tensors=tensors)


def _quantized(blocks: BlockTensor, numbers: Quantized) -> PackedTensor:
    codes = codes_of(numbers.codes)

    def packed_codes(some: np.ndarray) -> np.ndarray:
        return pack(numbers.read(some), codes.bits, -1)

    held = Numbers(codes.stored, codes.packed(numbers.count), packed_codes)
    parts = {"scale": numbers.scale, "offset": numbers.offset}
    fields = {key: _field(blocks, part) for key, part in parts.items() if part is not None}
    run = numbers.count // numbers.scale.count
    form = Form(numbers.codes, (1, run), np.dtype(np.float32))
    return packed_tensor(blocks.name, {"data": _field(blocks, held), **fields}, form)


def _field(blocks: BlockTensor, part: Numbers | Quantized) -> Tensor:
    """Returns one array of what blocks hold."""
    if isinstance(part, Quantized):
        return _quantized(blocks, part)
    shape = (*blocks.shape[:-1], blocks.shape[-1] // blocks.block.nbytes * part.count)
    return Field(
        blocks.name, shape, part.dtype, blocks.spans, whole=blocks, blocks=blocks, part=part
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field(Tensor):
    """One array of what `blocks` hold."""

    blocks: BlockTensor
    part: Numbers = dataclasses.field(compare=False)

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        most = max(_READ_AT_ONCE // self.blocks.block.nbytes, 1) * self.part.count
        for box in chunks(out.shape, most):
            there = tuple((a + low, b + low) for (a, b), (low, _) in zip(box, bounds, strict=True))
            out[tuple(slice(*bound) for bound in box)] = self._made(there)

    def _made(self, bounds: Bounds) -> np.ndarray:
        """Returns what all blocks between `bounds` hold: they are read at once, and taken apart a
        few at a time."""
        (first, last), nbytes, count = bounds[-1], self.blocks.block.nbytes, self.part.count
        begin, end = first // count, -(-last // count)
        data = self.blocks.read((*bounds[:-1], (begin * nbytes, end * nbytes)))
        blocks = data.reshape(-1, nbytes)
        found = np.empty((len(blocks), count), self.dtype)
        step = max(_AT_ONCE // self.blocks.block.size, 1)
        for at in range(0, len(blocks), step):
            found[at : at + step] = self.part.read(blocks[at : at + step])
        found = found.reshape(*data.shape[:-1], -1)
        return found[..., first - begin * count : last - begin * count]
