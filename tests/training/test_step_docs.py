"""The snippets of docs/training.md about steps run, from the top."""

import re

import pytest
from _paths import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text()


@pytest.mark.soak
def test_the_snippets_about_steps_run():
    sections = PAGE.split("\n## ")
    about = [s for s in sections if s.startswith(("A step", "Precision", "On a mesh", "Packing"))]
    assert len(about) == 4
    snippets = re.findall(r"```python\n(.*?)```", "".join(about), flags=re.DOTALL)
    exec(compile("\n".join(snippets), "docs/training.md", "exec"), {})
