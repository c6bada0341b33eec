"""What `scripts/generate` writes is what the registry and the configurations say today."""

from typing import Any

import _coverage
import generate
import pytest
from _paths import ROOT
from flax.core import FrozenDict

import flaxmodels as fm


@pytest.mark.parametrize("path", generate.FILES)
def test_is_current(path):
    text = (ROOT / path).read_text()
    assert generate.FILES[path](text) == text, f"{path} is out of date: run scripts/generate"


def test_every_call_has_a_test():
    assert [row for row, tests in _coverage.tests_of_rows().items() if not tests] == []


def test_conflicts_inside_the_marks_are_written_over():
    page = (ROOT / "README.md").read_text()
    row = "| BERT | `bert` |"
    conflict = f"<<<<<<< ours\n=======\n| other |\n>>>>>>> theirs\n{row}"
    assert row in page and generate.readme(page.replace(row, conflict)) == page


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (int, "int"),
        (float | None, "float | None"),
        (int | tuple[int, ...] | None, "Sequence[int] | int | None"),
        (FrozenDict[str, tuple[str, ...]], "Mapping[Json, Sequence[str]]"),
        (FrozenDict[str, Any] | None, "Mapping[Json, Json] | None"),
        (fm.LlamaConfig, "Config | Mapping[str, Json]"),
        (Any, "Json"),
        (int | object, "Json"),
    ],
)
def test_types_of_what_a_caller_may_give(hint, expected):
    assert " | ".join(generate.in_order(generate.spelled(hint))) == expected
