"""One rule for the weights of tests: an array is a function of (name, shape, seed).

The reference scripts and the tests draw the same arrays by it, so that a golden holds names, shapes
and outputs, and no weights. Integer arithmetic makes them: they are the same on every platform and
with every NumPy.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def uniform(name: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Draws float32 numbers in [-1, 1): SplitMix64 (Steele et al. 2014) counted from a hash of
    name, shape and seed; of each number the upper 24 bits, which float32 holds exactly."""
    text = f"{name}:{','.join(map(str, shape))}:{seed}"
    start = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], "<u8")
    z = start + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * _GOLDEN_GAMMA
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    bits = (z >> np.uint64(40)).astype(np.float32)
    return (bits / np.float32(1 << 23) - np.float32(1)).reshape(shape)


def integers(name: str, shape: Sequence[int], low: int, high: int, seed: int = 0) -> np.ndarray:
    """Draws int32 numbers, low <= number < high."""
    numbers = (uniform(name, shape, seed).astype(np.float64) + 1) / 2 * (high - low) + low
    return numbers.astype(np.int32)


def weight(name: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Draws a parameter by its name in the file, float32: the scale of a norm about 1, an embedding
    about 0, a kernel so that what it puts out is as large as what comes in, and a bias large enough
    to be missed."""
    noise = uniform(name, shape, seed)
    if name.endswith("bias"):
        return noise * np.float32(0.3)
    if re.search(r"(norm\w*|ln_\w+)\.(weight|scale)$", name.lower()):
        return 1 + noise * np.float32(0.4)
    if re.search(r"embed|wte|wpe", name):
        return noise * np.float32(0.4)
    return noise * np.float32(math.sqrt(5 / shape[-1]) if shape else 1)


def weights(
    shapes: Mapping[str, Sequence[int]], same: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Draws a whole checkpoint: {name in the file: shape} -> {name: array}; `same` has the names
    whose array is another's."""
    names = same or {}
    return {name: weight(names.get(name, name), shape) for name, shape in shapes.items()}
