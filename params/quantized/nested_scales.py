"""Scales that are quantised themselves, as bitsandbytes does it (Dettmers et al. 2023, QLoRA).

Their mean is taken off, and each 256 of them have a scale. These blocks run on over the ends of
rows: rows hold the scale of a block for each run of it.
"""

import functools
import math
import threading

import numpy as np

from ..formats.source import Bounds, Tensor
from .lazy_tensors import Computed
from .make import encode
from .packed import PackedTensor, packed_tensor
from .qtensor import Form

BLOCK = 256
_FEWEST = 8  # of a run, which has a scale and an offset of its own: 8 bytes of the 32 of numbers
_PIECE = 1024  # blocks that are quantised at once


def run_of(shape: tuple[int, ...], block: int = BLOCK) -> int:
    """Returns how many scales in a row have one scale and an offset, where scales of this shape are
    in blocks of `block`; 0 if these would take more bytes than they save."""
    if len(shape) != 2:
        return 0
    run = shape[1] if math.prod(shape) <= block else math.gcd(block, shape[1])
    return run if run >= _FEWEST else 0


def nested(scales: Tensor) -> PackedTensor:
    """Returns the packed tensor that quantising makes of scales [rows, columns] whose `run_of` is
    not 0; reads nothing. All of them are in memory once one is read, for their mean."""
    run = run_of(scales.shape)
    source, dtype = _Source(scales, run), np.dtype(np.float32)
    columns = {"data": scales.shape[1]} | dict.fromkeys(("scale", "offset"), scales.shape[1] // run)
    fields = {
        name: Computed.of(
            [scales],
            (scales.shape[0], width),
            np.dtype(np.uint8) if name == "data" else dtype,
            functools.partial(source.part, name),
            is_beside=True,
        )
        for name, width in columns.items()
    }
    return packed_tensor(scales.name, fields, Form("dynamic8", (1, run), dtype))


class _Source:
    """Scales, quantised when a field of them is read first, and kept until all have been."""

    def __init__(self, scales: Tensor, run: int):
        self.scales = scales
        self.run = run
        self._lock = threading.Lock()
        self._made: dict[str, np.ndarray] = {}
        self._left = 0

    def part(self, field: str, bounds: Bounds) -> np.ndarray:
        """Returns a part of a field."""
        with self._lock:
            if not self._made:
                self._made = self._quantized()
                self._left = sum(made.size for made in self._made.values())
            found = self._made[field][tuple(slice(*bound) for bound in bounds)]
            self._left -= found.size
            if self._left <= 0:
                self._made = {}
            return found

    def _quantized(self) -> dict[str, np.ndarray]:
        numbers = self.scales.read()
        # In 64 bits, rounded: a sum in 32 would depend on its order, and so on the machine.
        mean = numbers.mean(dtype=np.float64).astype(np.float32)
        flat, step = numbers.reshape(-1), BLOCK * _PIECE
        parts = [_encoded(flat[i : i + step] - mean) for i in range(0, flat.size, step)]
        data, inner = (np.concatenate(found) for found in zip(*parts, strict=True))
        scale = inner[np.arange(0, flat.size, self.run) // BLOCK].reshape(len(numbers), -1)
        return {
            "data": data.reshape(numbers.shape),
            "scale": scale,
            "offset": np.full_like(scale, -mean),
        }


def _encoded(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns codes, and the scales of their blocks; the last block may be smaller."""
    blocks = np.zeros((-(-numbers.size // BLOCK), BLOCK), np.float32)
    blocks.reshape(-1)[: numbers.size] = numbers
    codes, scale = encode(blocks, Form("dynamic8", (1, -1), np.dtype(np.float32)))
    return np.asarray(codes).reshape(-1)[: numbers.size], np.asarray(scale).reshape(-1)
