"""Where flaxmodels can be imported from, a checkout, an installation, a zip, and what it finds."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from _paths import GOLDENS, ROOT

import flaxmodels as fm

KERAS = GOLDENS / "formats" / "tf" / "keras" / "model.h5"

PACKAGE = {
    "flaxmodels": "flaxmodels/__init__.py",
    "flaxmodels.params": "params/__init__.py",
    "flaxmodels.sharding": "sharding/__init__.py",
}
# Folders of the repository that are no part of the package.
OTHERS = dict.fromkeys(["flaxmodels.tests", "flaxmodels.scripts", "flaxmodels.flaxmodels"])

WHERE = """
import importlib.util as util, json, sys

def origin(name):
    try:
        spec = util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return spec and (spec.origin or list(spec.submodule_search_locations))

json.dump({name: origin(name) for name in sys.argv[1:]}, sys.stdout)
"""
USE = """
import flaxmodels as fm
fm.params, fm.sharding, fm.LlamaForCausalLM
config = fm.LlamaConfig(vocab_size=8, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
                        num_attention_heads=2, num_key_value_heads=1)
print(fm.LlamaForCausalLM(config).abstract_params()["lm_head"]["kernel"].shape, fm.params.__file__)
"""


def python(code: str, *args: str, cwd: Path, path=(), installed: bool = False) -> str:
    """What a fresh interpreter prints that finds the packages in `cwd`, in `path`, and those that
    flaxmodels needs; what is installed here as a link to a checkout only if `installed`."""
    needed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    path = [*map(str, path), *([] if installed else needed)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
    env.pop("PYTHONSAFEPATH", None)
    command = [sys.executable, *([] if installed else ["-S"]), "-c", code, *args]
    run = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def where(*names: str, **options) -> dict[str, str | list[str] | None]:
    """name -> the file that would be imported."""
    return json.loads(python(WHERE, *names, **options))


def expected(root: Path | str, **changes: str | None) -> dict[str, str | None]:
    return {name: f"{root}/{file}" for name, file in PACKAGE.items()} | changes | OTHERS


def copy_sources(to: Path) -> Path:
    for name in ("flaxmodels", "params", "sharding"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to)
    for name in ("tests", "scripts"):
        (to / name).mkdir()
    return to


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The repository in another place."""
    return copy_sources(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def zipped(tmp_path_factory, clone) -> Path:
    """The root inside of what a hosting site hands out: a zip of one folder. What is compiled here
    is in it, too: to compile it again takes two seconds."""
    folder = tmp_path_factory.mktemp("zip")
    root = shutil.copytree(clone, folder / "root" / clone.name)
    for path in root.rglob("*.py"):
        compiled = importlib.util.cache_from_source(str(ROOT / path.relative_to(root)))
        if path.name != "__init__.py" and os.path.exists(compiled):
            shutil.copy(compiled, path.with_suffix(".pyc"))
    shutil.make_archive(str(folder / "main"), "zip", root.parent, clone.name)
    return folder / "main.zip" / clone.name


@pytest.fixture(scope="module")
def site_packages(tmp_path_factory) -> Path:
    """A folder into which a wheel was unpacked."""
    from setuptools import build_meta

    folder = tmp_path_factory.mktemp("site-packages")
    source = copy_sources(tmp_path_factory.mktemp("build"))
    with contextlib.chdir(source), contextlib.redirect_stdout(io.StringIO()):
        wheel = build_meta.build_wheel(str(folder))
    with zipfile.ZipFile(folder / wheel) as file:
        file.extractall(folder)
    return folder


INSIDE = {
    "flaxmodels.params": "flaxmodels/params/__init__.py",
    "flaxmodels.sharding": "flaxmodels/sharding/__init__.py",
}


def test_in_the_root_of_a_checkout():
    """What is found there works: all tests run on it."""
    assert where(*PACKAGE, *OTHERS, cwd=ROOT) == expected(ROOT)


def test_a_checkout_on_the_path(clone, tmp_path):
    """A research script's own `params` stays its own, and is not taken for ours."""
    (tmp_path / "params.py").write_text("")
    got = where(*PACKAGE, *OTHERS, "params", cwd=tmp_path, path=[clone])
    assert got == expected(clone) | {"params": str(tmp_path / "params.py")}


def test_a_link_to_this_checkout(tmp_path):
    there = Path(fm.__file__).parents[1]
    if Path(fm.params.__file__).parent.parent != there:
        pytest.skip("flaxmodels is installed here, and not as a link")
    got = where(*PACKAGE, *OTHERS, cwd=tmp_path, installed=True)
    assert got == expected(there)


def test_one_checkout_while_another_is_installed(clone):
    assert where(*PACKAGE, *OTHERS, cwd=clone, installed=True) == expected(clone)


def sources(folder: Path, inside: str) -> dict[str, bytes]:
    """{path in flaxmodels: content} of the modules below a folder, and what type checkers read."""
    kinds = (".py", ".pyi", "py.typed")
    return {
        f"{inside}{path.relative_to(folder)}": path.read_bytes()
        for path in folder.rglob("*")
        if path.name.endswith(kinds)
    }


def test_a_wheel(site_packages, tmp_path, thorough):
    """What is found there works: it is the sources, each of them."""
    ours = sources(ROOT / "flaxmodels", "")
    assert {"__init__.pyi", "py.typed"} <= ours.keys()
    for name in ("params", "sharding"):
        ours |= sources(ROOT / name, f"{name}/")
    assert sources(site_packages / "flaxmodels", "") == ours
    inside = {name: f"{site_packages}/{file}" for name, file in INSIDE.items()}
    if thorough:
        place = python(USE, cwd=tmp_path, path=[site_packages]).split()[-1]
        assert place == inside["flaxmodels.params"]
    assert where(*PACKAGE, *OTHERS, cwd=tmp_path, path=[site_packages]) == expected(
        site_packages, **inside
    )


def test_a_wheel_beside_packages_of_others(site_packages, tmp_path):
    """Nothing that stands beside the installed package is taken for a part of it."""
    shutil.copytree(site_packages, tmp_path / "site")
    for name in ("params", "sharding", "tests", "scripts"):
        (tmp_path / "site" / name).mkdir()
        (tmp_path / "site" / name / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "site" / "pyproject.toml").write_text("[tool.setuptools]\n")
    inside = {name: f"{tmp_path}/site/{file}" for name, file in INSIDE.items()}
    got = where(*PACKAGE, *OTHERS, cwd=tmp_path, path=[tmp_path / "site"])
    assert got == expected(tmp_path / "site", **inside)


@pytest.fixture(scope="module")
def copied(tmp_path_factory, clone):
    """A project that has a copy of flaxmodels and `params` of its own."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(clone / "flaxmodels", folder / "flaxmodels")
    (folder / "params").mkdir()
    (folder / "params" / "__init__.py").write_text("")
    return folder


@pytest.mark.parametrize(
    "project",
    [
        None,
        "[project]\nname = 'mine'\n",
        "[tool.setuptools]\npackage-dir = {params = 'params'}\n",
        "[tool.setuptools]\npackage-dir = 3\n",
        "[tool]\nsetuptools = []\n",
        "this is no TOML",
    ],
)
def test_copied_into_a_project_that_has_its_own_params(copied, project):
    """It is not found, whatever project it is, rather than taken from them."""
    (copied / "pyproject.toml").unlink(missing_ok=True)
    if project is not None:
        (copied / "pyproject.toml").write_text(project)
    missing = dict.fromkeys(INSIDE)
    assert where(*PACKAGE, *OTHERS, cwd=copied) == expected(copied, **missing)


def test_an_installation_after_a_checkout_in_one_process(clone, site_packages, tmp_path):
    """Each flaxmodels finds its own `params`; reloading leaves no second finder behind."""
    code = f"""
import importlib, sys
import flaxmodels
importlib.reload(flaxmodels)
assert sum(type(finder).__name__ == "Rooms" for finder in sys.meta_path) == 1, sys.meta_path
for name in [name for name in sys.modules if name.partition(".")[0] == "flaxmodels"]:
    del sys.modules[name]
sys.path.insert(0, {str(site_packages)!r})
{WHERE}"""
    inside = {name: f"{site_packages}/{file}" for name, file in INSIDE.items()}
    got = json.loads(python(code, *PACKAGE, *OTHERS, cwd=tmp_path, path=[clone]))
    assert got == expected(site_packages, **inside)


def test_a_zip_of_the_repository(zipped, tmp_path):
    """All works but what needs folders on a disk, and that says so."""
    assert where(*PACKAGE, *OTHERS, cwd=tmp_path, path=[zipped]) == expected(zipped)
    code = f"""{USE}
print(len(fm.params.open_checkpoint({str(KERAS)!r}).tensors))
try:
    fm.bundled_checkpoint()
except FileNotFoundError as error:
    print(error)
"""
    said = python(code, cwd=tmp_path, path=[zipped]).splitlines()
    assert said[0].endswith(f"{zipped}/params/__init__.py")
    assert int(said[1]) > 0
    assert f"{zipped}/flaxmodels/bundled/tiny-llama: no such folder" in said[2]
    assert "from a zip" in said[2] and "install" in said[2]
