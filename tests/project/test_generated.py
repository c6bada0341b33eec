"""What `scripts/generate` writes is what the registry and the configurations say today."""

import generate
import pytest
from _paths import ROOT


@pytest.mark.parametrize("path", generate.FILES)
def test_is_current(path):
    text = (ROOT / path).read_text()
    assert generate.FILES[path](text) == text, f"{path} is out of date: run scripts/generate"


def test_conflicts_inside_the_marks_are_written_over():
    page = (ROOT / "README.md").read_text()
    row = "| BERT | `bert` |"
    conflict = f"<<<<<<< ours\n=======\n| other |\n>>>>>>> theirs\n{row}"
    assert row in page and generate.readme(page.replace(row, conflict)) == page
