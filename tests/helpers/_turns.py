"""Parameters that are one of many of a kind: a part runs by default, all with `--all`."""

from collections.abc import Mapping, Sequence
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


def some_of(name: str, values: Mapping[str, Any] | Sequence[str], *by_default: str) -> Any:
    """Parametrizes by values, or by those of a mapping with their names; those that are not named
    are marked `soak`."""
    assert {*by_default} <= {*values}
    return pytest.mark.parametrize(
        name,
        [
            pytest.param(
                values[key] if isinstance(values, Mapping) else key,
                id=key,
                marks=() if key in by_default else pytest.mark.soak,
            )
            for key in values
        ],
    )
