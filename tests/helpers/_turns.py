"""Parameters that are independent: each value runs by default, their product with `--all`."""

from collections.abc import Sequence
from typing import Any

import pytest


def in_turn(
    first: str,
    values: Sequence[Any],
    second: str,
    others: Sequence[Any],
    ids: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
) -> pytest.MarkDecorator:
    """Parametrizes by two lists: the default run has each value of the longer with one of the
    shorter, taken in turn; the other pairs are marked `soak`.

    Args:
        ids: names of the values of each; `str` of them if None.
    """
    names, other_names = ids[0] or [*map(str, values)], ids[1] or [*map(str, others)]
    found = []
    for i, value in enumerate(values):
        for j, other in enumerate(others):
            turn = i % len(others) == j if len(values) >= len(others) else j % len(values) == i
            found.append(
                pytest.param(
                    *(value, other),
                    id=f"{names[i]}-{other_names[j]}",
                    marks=() if turn else pytest.mark.soak,
                )
            )
    return pytest.mark.parametrize((first, second), found)
