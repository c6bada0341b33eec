"""Commands end with a sentence and a status, whatever they are given."""

import json
import os
import shutil
import subprocess
import sys

import _children
import numpy as np
import pytest
from _files import put, write_safetensors
from _paths import LLAMA

import flaxmodels as fm
from flaxmodels.commands import cli


@pytest.fixture(autouse=True, scope="module")
def auto_imported():
    import flaxmodels.auto  # noqa: F401


def bad_inputs(folder):
    """Commands that cannot be carried out."""
    source, bundled = str(LLAMA), fm.bundled_checkpoint()
    shutil.copytree(LLAMA, folder / "quantised")
    config = json.loads((LLAMA / "config.json").read_text())
    values = config | {"quantization_config": {"bits": 4}}
    put(folder / "quantised", "config.json", json.dumps(values))
    put(folder, "file", b"")
    (folder / "empty").mkdir()
    return {
        "gone": ["convert", str(folder / "gone"), str(folder / "a")],
        "onto a file": ["convert", source, str(folder / "file")],
        "into a file": ["convert", source, str(folder / "file" / "x")],
        "dtype": ["convert", source, str(folder / "a"), "--dtype", "float99"],
        "size": ["convert", source, str(folder / "a"), "--max-shard-size", "lots"],
        "negative size": ["convert", source, str(folder / "a"), "--max-shard-size", "-5"],
        "format": ["convert", source, str(folder / "a"), "--format", "onnx"],
        "variant": ["convert", source, str(folder / "a"), "--variant", "a/b"],
        "no such variant": ["convert", source, str(folder / "a"), "--from-variant", "fp8"],
        "framework": ["convert", source, str(folder / "a"), "--framework", "tf"],
        "drop": ["convert", source, str(folder / "a"), "--drop", "("],
        "quantised": ["plan", str(folder / "quantised")],
        "mesh": ["inspect", source, "--mesh", "fsdp"],
        "depth": ["inspect", source, "--depth", "-1"],
        "an empty mesh": ["inspect", source, "--mesh", ""],
        "chat without turns": ["chat", bundled, "--system", "Be brief."],
        "a choice of nothing drawn": ["chat", bundled, "--temperature", "0", "--top-k", "5"],
        "seed": ["chat", bundled, "--seed", str(10**30)],
        "mesh that does not fit": ["inspect", source, "--mesh", "fsdp=7"],
        "page": ["inspect", source, "--html", str(folder / "no" / "page.html")],
        "empty": ["inspect", str(folder / "empty")],
        "upload of nothing": ["upload", str(folder / "empty"), "org/name"],
        "card of nothing": ["card", str(folder / "empty")],
        "path": ["download", "./no/such"],
        "odd path": ["inspect", "\udcff\x1b[2J"],
        "null": ["inspect", "a\0b.safetensors"],
    }


CASES = [
    "gone", "onto a file", "into a file", "dtype", "size", "negative size", "format", "variant",
    "depth", "an empty mesh", "chat without turns", "a choice of nothing drawn", "seed",
    "no such variant", "framework", "drop", "quantised", "mesh", "mesh that does not fit", "page",
    "empty", "upload of nothing", "card of nothing", "path", "odd path", "null",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_sentence_and_status_1(case, tmp_path, capsys):
    assert cli.main(bad_inputs(tmp_path)[case]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("flaxmodels: ") and said.err.count("\n") == 1
    assert said.err.strip().isprintable() and "verified" not in said.out


def test_a_warning_is_a_line_of_its_own(tmp_path):
    shutil.copytree(LLAMA, tmp_path / "m")
    values = json.loads((LLAMA / "config.json").read_text())
    put(tmp_path / "m", "config.json", json.dumps(values | {"auto_map": {"AutoModel": "a--b.C"}}))
    run = _children.run("-m", "flaxmodels", "plan", tmp_path / "m", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    (line,) = run.stderr.splitlines()
    assert line.startswith("warning: ") and "auto_map" in line and ".py" not in line


def test_interrupted(monkeypatch, capsys):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_plan", interrupt)
    assert cli.main(["plan", str(LLAMA)]) == 130
    assert capsys.readouterr().err == "flaxmodels: stopped\n"


def test_a_pipe_that_is_closed():
    command = [sys.executable, "-P", "-m", "flaxmodels", "inspect", str(LLAMA)]
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert run.returncode == 0 and "Traceback" not in run.stderr, run.stderr
    assert "Exception ignored" not in run.stderr


def test_no_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # of a shell's >&-
    assert cli.main(["inspect", str(LLAMA)]) == 0


def test_names_out_of_a_file_do_nothing_to_the_terminal(tmp_path, capsys):
    names = ["\x1b[2J", "a\nb", "\u202e", "n" * 4000]
    tensors = dict.fromkeys(names, np.ones(2, np.float32))
    one = write_safetensors(tmp_path / "model.safetensors", tensors)
    assert cli.main(["inspect", str(one)]) == 0
    assert cli.main(["diff", str(one), str(one)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() and len(line) < 500 for line in lines)


def test_few_files_may_be_open(tmp_path):
    """Our error, or the work done; no traceback."""
    program = (
        "import sys; from flaxmodels.commands import cli; import flaxmodels.auto, resource;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2);"
        "sys.exit(cli.main(['convert', sys.argv[2], sys.argv[3], '--max-shard-size', '20KB']))"
    )
    for count in (5, 12, 24):
        target = tmp_path / str(count)
        run = _children.run("-c", program, str(count), LLAMA, target)
        assert run.returncode in (0, 1) and "Traceback" not in run.stderr, run.stderr
        assert "verified" in run.stdout or "Too many open files" in run.stderr, run.stderr
