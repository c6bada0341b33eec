"""The README's snippets run, from the top, in one process; the Hub's with a loopback Hub; and so do
those of docs/migration.md."""

import os
import re
from pathlib import Path

import _children
from _paths import ROOT
from loopback.client import hub_environment

import flaxmodels as fm

README = (ROOT / "README.md").read_text()
MIGRATION = (ROOT / "docs" / "migration.md").read_text()
HUB = re.search(r"\n## From and to the Hub\n.*?(?=\n## )", README, re.DOTALL)


def run(text: str, tmp_path: Path, *options: str, **environment: str) -> str:
    """What the snippets of a text print."""
    script = tmp_path / "readme.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
    result = _children.run(*options, script, cwd=tmp_path, env=os.environ | environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_snippets_run(tmp_path):
    assert HUB is not None and README.count("```python") == 5
    end = "```python\nassert shapes.keys() == params.keys() and logits.shape[-1] == 256\n```"
    printed = run(README.replace(HUB[0], "") + end, tmp_path, "-W", "error")
    assert "The import statement " in printed and "load plan of saved" in printed
    assert len(list((tmp_path / "saved-half").glob("*.safetensors"))) == 3
    (picture,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert picture in printed


def test_snippets_of_the_hub_run(hub, tmp_path):
    assert HUB is not None
    folder = Path(fm.bundled_checkpoint())
    hub.commit("org/name", {path.name: path.read_bytes() for path in folder.iterdir()})
    said = run(HUB[0], tmp_path, HF_TOKEN="hf_write", **hub_environment(hub, tmp_path))
    assert hub.head("org/name-bf16") in said
    assert "model.safetensors" in hub.files("org/name-bf16")


def test_D39_snippets_of_the_migration_page_run(tmp_path):
    said = run(MIGRATION, tmp_path, "-W", "error")
    assert "[] []" in said and "loss " in said


def test_D39_the_migration_page_names_what_there_is():
    """Whatever it says of `fm`, `fp` and `fs` is there."""
    rooms = {"fm": fm, "fp": fm.params, "fs": fm.sharding}
    named = re.findall(r"\b(f[mps])\.(\w+)", MIGRATION)
    assert len(named) > 25
    for room, name in named:
        assert hasattr(rooms[room], name), f"{room}.{name}"
