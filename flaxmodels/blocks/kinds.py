"""Kinds of layers, and the split of a stack into segments that a scan can run."""

import functools
from collections.abc import Hashable
from typing import NamedTuple


class Kind(NamedTuple):
    """All that is static about a layer.

    Layers of one form have the same params, and a scan runs them as one program, whatever their
    attention: what depends on it is a branch (`At.of`).

    Attributes:
        attention: the layer type as `config.json` spells it ("full_attention",
            "sliding_attention", ...): which mask the layer reads, and which entry of the cache.
        rotary: the name of the rotation of its queries and keys, for `config.rope_for`; None for a
            layer without.
        form: how it is built, in a family whose layers differ in more than these; "" for most.
    """

    attention: str = "full_attention"
    rotary: str | None = "default"
    form: str = ""


class Segment(NamedTuple):
    """A run of layers that one scan applies: `count` repeats of `period` layers, from layer `first`
    on. The scan's body has `period` layers; the one at place p holds layers first + p,
    first + p + period, ..."""

    first: int
    period: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride] (a tuple counts values)


@functools.lru_cache(maxsize=64)
def segments(forms: tuple[Hashable, ...] | str) -> tuple[Segment, ...]:
    """Splits layers, given by their forms, into segments, each to be scanned, so that as few as
    possible are compiled.

    Every layer is in one segment, in order; a layer that fits into no repetition is a segment
    (i, 1, 1) of its own.

    >>> [tuple(part) for part in segments("MMMMMA" * 4 + "MM")]
    [(0, 6, 4), (24, 1, 2)]
    >>> [tuple(part) for part in segments("D" * 3 + "M" * 58)]  # DeepSeek-V3: dense, then experts
    [(0, 1, 3), (3, 1, 58)]
    """
    # Minimised is the number of layers that are traced and compiled, which is the sum of the
    # periods; then the number of scans; then what is left to the scans after the first. `plans[i]`
    # is the best plan of the layers from i on, found from the last layer to the first: exact, and
    # of depth**2 * log(depth) steps at most, 0.02 s for 128 layers.
    depth = len(forms)
    plans = {depth: (0, 0, 0, None)}  # first layer: (bodies, scans, -layers of the first, segment)
    equal = [0] * (depth + 1)  # period: how many layers in a row equal the one a period later
    for first in reversed(range(depth)):
        options = []
        for period in range(1, depth - first + 1):
            same = first + period < depth and forms[first] == forms[first + period]
            equal[period] = equal[period] + 1 if same else 0
            fewest = 1 if period == 1 else 2  # one repeat of many layers saves nothing
            for count in range(fewest, equal[period] // period + 2):
                bodies, scans, _, _ = plans[first + period * count]
                segment = Segment(first, period, count)
                options.append((period + bodies, 1 + scans, -period * count, segment))
        plans[first] = min(options)
    found, first = [], 0
    while first < depth:
        found.append(plans[first][3])
        first += found[-1].period * found[-1].count
    return tuple(found)
