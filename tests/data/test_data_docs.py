"""The snippets of docs/data.md run, from the top."""

import re

from _paths import ROOT


def test_T17_snippets_of_the_page_run():
    page = (ROOT / "docs" / "data.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(snippets) == 5
    exec(compile("\n".join(snippets), "docs/data.md", "exec"), {})
