"""What the documentation names exists: files, modules, public names."""

import functools
import importlib
import inspect
import re

import pytest
from _paths import ROOT

import flaxmodels as fm

PUBLIC = {"fm": fm, "fp": fm.params, "fs": fm.sharding}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SOURCES = sorted(
    path
    for room in ("flaxmodels", "params", "sharding", "scripts", "examples", "tests")
    for path in (ROOT / room).rglob("*.py")
)
PATH = re.compile(r"(?<![\w/.:-])(?:[\w-]+/)+[\w-]+\.(?:py|md|toml|txt)\b")
FOLDER = re.compile(r"(?<![\w/.:-])(?:scripts|docs|examples|params|sharding)/[\w/]+\b(?!\.)")


def documentation(path) -> str:
    """The text of a page, or a module's docstrings, for which a thousand files are not parsed: what
    stands between three quotes that begin a line."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    parts = text.split('"""')
    pairs = zip(parts[::2], parts[1::2], strict=False)
    return "\n".join(text for before, text in pairs if not before.rpartition("\n")[2].strip())


@functools.cache
def texts() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): documentation(path) for path in [*PAGES, *SOURCES]}


def test_files_that_are_named_exist():
    gone = []
    for name, text in texts().items():
        for found in {*PATH.findall(text), *FOLDER.findall(text)}:
            beside = (ROOT / name).parent
            if not any((root / found).exists() for root in (ROOT, ROOT / "flaxmodels", beside)):
                gone.append(f"{name}: {found}")
    assert gone == []


def test_names_that_are_used_exist():
    gone = []
    for name, text in texts().items():
        for module, attribute in set(re.findall(r"\b(f[mps])\.([A-Za-z]\w*)", text)):
            if not hasattr(PUBLIC[module], attribute):
                gone.append(f"{name}: {module}.{attribute}")
        for dotted in set(re.findall(r"\bflaxmodels(?:\.[A-Za-z_]\w*)+", text)):
            if not exists(dotted):
                gone.append(f"{name}: {dotted}")
    assert gone == []


def exists(dotted: str) -> bool:
    """Tells whether a module, or an attribute at the end of one, has this name."""
    value, parts = fm, dotted.split(".")
    for i, part in enumerate(parts[1:], 2):
        try:
            value = getattr(value, part)
        except AttributeError:
            try:
                value = importlib.import_module(".".join(parts[:i]))
            except ImportError:
                return False
    return True


@pytest.mark.parametrize("room, page", [("fm", "models"), ("fp", "trees"), ("fs", "sharding")])
def test_public_names_are_in_the_docs(room, page):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    modules = {name for name, value in vars(PUBLIC[room]).items() if inspect.ismodule(value)}
    names = set(getattr(PUBLIC[room], "__all__", dir(PUBLIC[room]))) - modules
    flax = {name for name in names if name.removeprefix("Flax") in names - {name}}
    plain = {name for name in names - flax if not name.startswith("_")}
    assert {name for name in plain if not re.search(rf"\b{room}\.{name}\b", text)} == set()


def test_pre_commit_runs_the_ruff_of_the_checks():
    config, project = (
        (ROOT / n).read_text() for n in (".pre-commit-config.yaml", "pyproject.toml")
    )
    assert re.findall(r"rev: v(\S+)", config) == re.findall(r'"ruff==(\S+)"', project) != []
