"""What pyright knows of a user's script, outside of the repository, of what a build installs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from _paths import ROOT

USER = ROOT / "tests" / "helpers" / "_user_script.py"
SNIPPETS = ("README.md", "docs/migration.md", "docs/hub.md")


def install(folder: Path) -> None:
    """Puts the package into `folder` as a wheel has it."""
    build = f"import setuptools; setuptools.setup(script_args=['build_py', '-d', {str(folder)!r}])"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)


def typed_snippets(page: str) -> str:
    """Returns the snippets of a page, with the type of each model that they load."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL))
    head = "from typing import assert_type; import flaxmodels.params as fp"
    lines = [head, *code.splitlines()]
    loads = [
        (node.end_lineno, call[1])
        for node in ast.parse(code).body
        if (
            call := re.match(r"\(?model, params\)? = fm\.(\w+)\.from_pretrained", ast.unparse(node))
        )
    ]
    assert loads, f"{page} loads nothing"
    for end, name in reversed(loads):
        known = "PretrainedModel" if name.startswith("Auto") else name
        lines.insert(end + 1, f"assert_type((model, params), tuple[fm.{known}, fp.Params])")
    return "\n".join(lines)


def scripts(what: str) -> dict[str, str]:
    if what == "a script":
        return {"user": USER.read_text()}
    return {f"{Path(page).stem.lower()}_snippets": typed_snippets(page) for page in SNIPPETS}


# By default pyright reads the script with all else (scripts/check), a wheel is compared with the
# sources (test_checkout.py), and the snippets run.
@pytest.mark.soak
@pytest.mark.parametrize("what", ["a script", "snippets"])
def test_D10_pyright_knows_a_users_script_and_the_snippets(what, tmp_path):
    installed, project = tmp_path / "installed", tmp_path / "project"
    install(installed)
    assert (installed / "flaxmodels" / "py.typed").exists()
    project.mkdir()
    for name, code in scripts(what).items():
        (project / f"{name}.py").write_text(code)
    run = subprocess.run(
        [Path(sys.executable).with_name("pyright"), "--pythonpath", sys.executable],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(installed), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0 and "0 errors" in run.stdout, run.stdout + run.stderr
