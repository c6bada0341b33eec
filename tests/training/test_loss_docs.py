"""The snippets of docs/training.md about losses run, from the top."""

import re

import _stand_in
from _paths import ROOT

import flaxmodels as fm
from flaxmodels.core.head_kinds import KINDS

PAGE = (ROOT / "docs" / "training.md").read_text()
(SECTION,) = re.findall(r"\n## Losses\n.*?(?=\n## |\Z)", PAGE, re.DOTALL)


def test_snippets_of_losses_run(capsys, monkeypatch):
    monkeypatch.setattr(fm, "bundled_checkpoint", _stand_in.bundled_checkpoint)
    snippets = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    exec(compile("\n".join(snippets), "docs/training.md", "exec"), {})
    assert "{'logits': Part(total=" in capsys.readouterr().out


def test_all_kinds_are_in_the_table():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|.*\|.*\|.*\|$", SECTION, re.MULTILINE)
    assert set(re.findall(r"\w+", " ".join(rows))) == KINDS.keys()
    labels = {name for kind in KINDS.values() for name in kind.names}
    assert {name for name in labels if f"`{name}`" not in SECTION} == set()
