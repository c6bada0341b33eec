"""Random numbers that follow from their keys alone, by SplitMix64: a row's draws depend neither on
the rows before it, nor on NumPy's version, nor on how many processes read it.

Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
"""

from typing import TypeAlias

import numpy as np

Key: TypeAlias = "int | np.ndarray"

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


def mixed(*keys: Key) -> np.ndarray:
    """Returns one uint64 for each combination of keys (whole numbers from 0), broadcast against
    each other; of scalars alone [1]."""
    state = np.zeros(1, np.uint64)  # arrays wrap around; NumPy's scalars would warn
    for key in keys:
        state = _finalized((state ^ np.asarray(key).astype(np.uint64)) + _GOLDEN)
    return state


def uniform(*keys: Key) -> np.ndarray:
    """Returns float64 from 0 to 1, 1 left out, for each combination of keys."""
    return (mixed(*keys) >> np.uint64(11)) * 2.0**-53


def permutation(count: int, *keys: int) -> np.ndarray:
    """Returns the numbers 0 to `count` - 1 in an order that follows from the keys, int64."""
    return np.argsort(mixed(*keys, np.arange(count)), kind="stable")


def _finalized(x: np.ndarray) -> np.ndarray:
    for shift, factor in _STEPS:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x
