"""Kinds of layers, and the segments that a scan runs."""

import itertools
import time

import numpy as np
import pytest

from flaxmodels.blocks import Kind, segments

FULL, SLIDING = Kind(), Kind("sliding_attention")


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((), []),
        ((FULL,) * 40, [(0, 1, 40)]),
        (([SLIDING] * 5 + [FULL]) * 4 + [SLIDING] * 2, [(0, 6, 4), (24, 1, 2)]),  # Gemma 3 1B
        ("D" * 3 + "M" * 58, [(0, 1, 3), (3, 1, 58)]),  # DeepSeek-V3
        ("SF" * 13 + "S", [(0, 2, 13), (26, 1, 1)]),
        ("F" * 28 + "S" * 4, [(0, 1, 28), (28, 1, 4)]),  # Qwen 2 with max_window_layers
        ("ABC", [(0, 1, 1), (1, 1, 1), (2, 1, 1)]),
        ("AABAAB", [(0, 3, 2)]),
        ("SSF" * 3 + "FFF", [(0, 3, 3), (9, 1, 3)]),
    ],
)
def test_segments(kinds, expected):
    assert [tuple(segment) for segment in segments(tuple(kinds))] == expected


def layers_of(kinds, found):
    """What is compiled, and which layers it is applied to, in order."""
    bodies, order = 0, []
    for first, period, count in found:
        bodies += period
        order += range(first, first + period * count)
        for layer in range(first, first + period * count):
            assert kinds[layer] == kinds[first + (layer - first) % period]
    assert order == [*range(len(kinds))]
    return bodies


def test_any_pattern_is_covered_once_in_order():
    rng = np.random.default_rng(0)
    for depth in range(1, 40):
        kinds = tuple(rng.integers(0, 1 + depth % 3 + 1, depth).tolist())
        assert layers_of(kinds, segments(kinds)) <= depth


def fewest(kinds):
    """The fewest bodies of any split, by trying all."""
    if not kinds:
        return 0
    best = len(kinds)
    for period, count in itertools.product(range(1, len(kinds) + 1), repeat=2):
        covered = period * count
        if covered <= len(kinds) and kinds[:covered] == kinds[:period] * count:
            if count > 1 or period == 1:
                best = min(best, period + fewest(kinds[covered:]))
    return best


def test_no_split_compiles_fewer():
    for kinds in itertools.product("AB", repeat=8):
        assert layers_of(kinds, segments(kinds)) == fewest(kinds)


def test_128_layers_are_split_at_once():
    rng = np.random.default_rng(1)
    start = time.process_time()
    for kinds in ("A" * 128, "AAAAAB" * 21, "".join(rng.choice(["A", "B"], 128))):
        layers_of(kinds, segments(kinds))
    assert time.process_time() - start < 1
