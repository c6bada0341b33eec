"""The drawn structure: how much stands in a folder, a file, a function, a list of parameters."""

import ast
from collections.abc import Iterator

from _paths import ROOT
from _sources import tree

import flaxmodels.params as fp

MODULES = sorted(
    p for room in ("flaxmodels", "params", "sharding") for p in (ROOT / room).rglob("*.py")
)
DOORS = {"compile", "from_pretrained", "generate", "stream"}
"""Public calls whose keywords are Transformers' own, each with a line of documentation."""


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef) and node.name not in DOORS:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_no_folder_has_more_than_15_modules():
    """But for that of the families, which has a file for each."""
    folders = [p.parent for p in MODULES if p.name != "__init__.py"]
    full = {str(f.relative_to(ROOT)) for f in folders if folders.count(f) > 15}
    assert full == {"flaxmodels/families"}


def test_no_file_is_longer_than_400_lines():
    lines = {str(p.relative_to(ROOT)): p.read_text().count("\n") for p in MODULES}
    assert {name: n for name, n in lines.items() if n > 400} == {}


def test_no_function_is_longer_than_60_lines():
    lines = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    assert {name: n for name, n in lines.items() if n > 60} == {}


def test_no_function_has_more_than_12_parameters():
    count = {
        name: len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
        for name, node in functions()
    }
    assert {name: n for name, n in count.items() if n > 12} == {}


def test_params_has_at_most_40_public_names():
    assert len(fp.__all__) <= 40
