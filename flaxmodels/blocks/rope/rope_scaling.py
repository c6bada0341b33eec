"""Rope scaling: the frequencies of rotary position embedding, and the ways of stretching them to
longer contexts.

They follow the reference implementation, `modeling_rope_utils.py` of Transformers 5.23, in float32.
"""

import math
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from ...documents.json_values import JsonObject
from ...params.types import Concrete, Scalar

ROPE_TYPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("original_max_position_embeddings",),
    "longrope": ("short_factor", "long_factor", "original_max_position_embeddings"),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "proportional": (),
}
"""rope_type -> the keys of `rope_parameters` that it cannot do without, beside `rope_theta`."""


def rope_frequencies(
    rope: JsonObject, length: jax.Array | int, head_dim: int, max_positions: int
) -> tuple[Concrete, float]:
    """Returns the angle per position, float32 [R / 2] for R numbers of a head that turn, and the
    factor on cosines and sines.

    A length that is an int needs NumPy alone: configurations are checked that way.

    Args:
        length: greatest position + 1, on which "dynamic" and "longrope" depend.
        head_dim: H; R is `rotary_dims`, rounded up to an even number.
    """
    dim = rotary_dims(rope, head_dim)
    base, factor = float(rope["rope_theta"]), float(rope.get("factor", 1.0))
    match rope["rope_type"]:
        case "default":
            return _inverse(base, dim), 1.0
        case "linear":
            return _inverse(base, dim) / np.float32(factor), 1.0
        case "dynamic":
            longest = _numpy(length).maximum(length, max_positions).astype(np.float32)
            stretch = longest / max_positions
            return _inverse(base * (factor * stretch - (factor - 1)) ** (dim / (dim - 2)), dim), 1.0
        case "yarn":
            return _yarn(rope, dim, max_positions)
        case "longrope":
            return _longrope(rope, length, dim, max_positions)
        case "llama3":
            return _llama3(rope, dim), 1.0
        case "proportional":
            return _proportional(rope, dim), 1.0
    raise ValueError(f"rope_type {rope['rope_type']!r}: expected one of {', '.join(ROPE_TYPES)}")


def rotary_dims(rope: JsonObject, head_dim: int) -> int:
    """Returns how many numbers of a head turn: all of them for "proportional", which leaves some
    angles at 0, and else the part that `partial_rotary_factor` says."""
    whole = rope["rope_type"] == "proportional"
    return head_dim if whole else int(head_dim * rope.get("partial_rotary_factor", 1.0))


def _numpy(length: jax.Array | int) -> ModuleType:
    return jnp if isinstance(length, jax.Array) else np


def _inverse(base: Scalar, dim: int, count: int | None = None) -> Concrete:
    """Returns base ** (-2 i / dim), float32, for the first `count` i."""
    exponents = np.arange(0, dim, 2, dtype=np.float32)[:count] / np.float32(dim)
    if isinstance(base, jax.Array):
        return 1.0 / jnp.broadcast_to(base, exponents.shape) ** exponents
    return 1.0 / np.float32(base) ** exponents


def _yarn(rope: JsonObject, dim: int, max_positions: int) -> tuple[Concrete, float]:
    """Interpolates by wavelength (Peng et al. 2023, arXiv:2309.00071)."""
    original, base = rope["original_max_position_embeddings"], rope["rope_theta"]
    factor = rope.get("factor", max_positions / original)

    def dimension(rotations: float) -> float:
        return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(rope.get("beta_fast") or 32), dimension(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    width = np.float32(high - low if high != low else 0.001)
    ramp = np.clip((np.arange(dim // 2, dtype=np.float32) - np.float32(low)) / width, 0, 1)
    plain = _inverse(base, dim)
    return plain / np.float32(factor) * ramp + plain * (1 - ramp), _yarn_scale(rope, factor)


def _yarn_scale(rope: JsonObject, factor: float) -> float:
    if "attention_factor" in rope:
        return rope["attention_factor"]

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return scale(rope["mscale"]) / scale(rope["mscale_all_dim"])
    return scale(1.0)


def _longrope(
    rope: JsonObject, length: jax.Array | int, dim: int, max_positions: int
) -> tuple[Concrete, float]:
    """Stretches each frequency by its own factor, one set of them up to the original length and
    another beyond it (Ding et al. 2024, arXiv:2402.13753)."""
    original = rope["original_max_position_embeddings"]
    factor = rope.get("factor", max_positions / original)
    scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    scale = rope.get("attention_factor", scale)
    short, long = (np.array(rope[key], np.float32) for key in ("short_factor", "long_factor"))
    stretch = _numpy(length).where(length > original, long, short)
    return _inverse(rope["rope_theta"], dim) / stretch, scale


def _llama3(rope: JsonObject, dim: int) -> np.ndarray:
    """Stretches long wavelengths, keeps short ones, interpolates between them (Llama 3.1)."""
    plain = _inverse(rope["rope_theta"], dim)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = np.float32(rope["original_max_position_embeddings"] / (2 * math.pi)) * plain
    kept = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)
    return (1 - kept) * plain / np.float32(rope["factor"]) + kept * plain


def _proportional(rope: JsonObject, dim: int) -> np.ndarray:
    """Rotates the first `partial_rotary_factor` of the pairs, and leaves the others unrotated."""
    turning = int(rope.get("partial_rotary_factor", 1.0) * dim // 2)
    frequencies = np.zeros(dim // 2, np.float32)
    frequencies[:turning] = _inverse(rope["rope_theta"], dim, turning)
    return frequencies / np.float32(rope.get("factor", 1.0))
