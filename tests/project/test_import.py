"""What importing flaxmodels costs and changes, and that what is installed is what is here."""

import ast
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from _paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOTS = {
    "flaxmodels": "flaxmodels",
    "flaxmodels.params": "params",
    "flaxmodels.sharding": "sharding",
}

MAY_IMPORT = {
    "params": {
        "google_crc32c",
        "h5py",
        "jax",
        "ml_dtypes",
        "msgpack",
        "numpy",
        "safetensors",
        "tqdm",
    },
    "sharding": {"flax", "jax", "numpy"},
}
MAY_ALSO_IMPORT = {  # inside functions
    "params/formats/orbax/tree.py": {"orbax"},
    "params/formats/orbax/zarr.py": {"tensorstore"},
}

PROBE = """
import json, os, sys, time
import jax, flax.linen
environ, modules, start = dict(os.environ), set(sys.modules), time.perf_counter()
import flaxmodels
seconds = time.perf_counter() - start
json.dump({
    "seconds": seconds,
    "environ": {k: v for k, v in os.environ.items() if environ.get(k) != v},
    "unset": [k for k in environ if k not in os.environ],
    "modules": [m for m in sys.modules if m not in modules],
    "backends": len(jax._src.xla_bridge._backends),
}, sys.stdout)
"""


def probe(cwd: Path) -> dict:
    """`import flaxmodels` in a fresh interpreter that has imported jax and flax.linen."""
    run = subprocess.run(
        [sys.executable, "-P", "-c", PROBE], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> dict:
    return probe(tmp_path_factory.mktemp("elsewhere"))


def test_leaves_the_environment_alone(imported):
    assert imported["environ"] == {}
    assert imported["unset"] == []


def test_starts_no_backend(imported):
    assert imported["backends"] == 0


def test_leaves_the_heavy_packages_for_later(imported):
    [contract] = [
        c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["id"] == "frameworks"
    ]
    unwanted = {"huggingface_hub", "orbax", "tensorstore", "tokenizers"}
    unwanted.update(contract["forbidden_modules"])
    assert {name.partition(".")[0] for name in imported["modules"]} & unwanted == set()


def test_is_quick(imported, tmp_path):
    """0.15 s on top of jax and flax.linen, in the best of a few runs on a busy machine."""
    best = imported["seconds"]
    for _ in range(8):
        if best < 0.15:
            break
        best = min(best, probe(tmp_path)["seconds"])
    assert best < 0.15


def test_every_package_is_declared():
    there = {
        ".".join([name, *init.parent.relative_to(ROOT / folder).parts])
        for name, folder in ROOTS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    setuptools = PYPROJECT["tool"]["setuptools"]
    assert set(setuptools["packages"]) == there
    assert setuptools["package-dir"] == ROOTS


def test_D10_type_checkers_see_the_names_that_there_are():
    import flaxmodels as fm

    typed = set()
    for node in ast.parse(Path(fm.__file__).with_suffix(".pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            typed |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.ClassDef):
            typed.add(node.name)
        elif isinstance(node, ast.Assign):
            typed |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert typed == {*dir(fm)} - {"__version__"} and all(hasattr(fm, name) for name in typed)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_only_what_it_may(package):
    """import-linter can only name what is forbidden; this names what is allowed."""
    strays = []
    for file in sorted((ROOT / package).rglob("*.py")):
        depth = len(file.relative_to(ROOT / package).parts)
        allowed = MAY_IMPORT[package] | MAY_ALSO_IMPORT.get(str(file.relative_to(ROOT)), set())
        for node in ast.walk(ast.parse(file.read_text(), file)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            elif isinstance(node, ast.ImportFrom) and node.level > depth:
                names = ["flaxmodels"]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                if f"{name}.".startswith(f"flaxmodels.{package}."):
                    continue
                if top not in sys.stdlib_module_names | allowed:
                    strays.append(f"{file.relative_to(ROOT)}:{node.lineno}: {name}")
    assert strays == []


def test_the_network_is_out_of_reach():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    for reach in (
        lambda: socket.create_connection(("192.0.2.1", 80)),
        lambda: socket.create_connection(("example.invalid", 80)),
    ):
        with pytest.raises(BaseException, match="without a network"):
            reach()


def test_eight_devices():
    import jax

    assert jax.device_count("cpu") == 8
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_the_names_of_params_are_few_and_each_is_in_the_docs():
    from flaxmodels import params as fp

    assert len(fp.__all__) <= 40
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert [name for name in fp.__all__ if not re.search(rf"\bfp\.{name}\b", pages)] == []
