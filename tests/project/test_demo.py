"""The demo in a process of its own."""

import json
import re
import subprocess

import _children
import pytest
from _paths import GOLDENS, ROOT
from _turns import some_of

BUNDLED = ROOT / "flaxmodels" / "bundled" / "tiny-llama"


def demo(*args: str) -> subprocess.CompletedProcess[str]:
    return _children.run(ROOT / "scripts" / "demo.py", *args)


@pytest.mark.soak
def test_the_bundled_checkpoint():
    run = demo("--max-new-tokens", "8")
    assert run.returncode == 0, run.stderr
    assert "LlamaForCausalLM on 8 cpu devices" in run.stdout
    assert "mesh fsdp=4 x tensor=2" in run.stdout
    assert "missing 0, unexpected 0, mismatched 0" in run.stdout
    assert all(f"cpu:{device}" in run.stdout for device in range(8))
    sample = json.loads((BUNDLED / "training.json").read_text())["sample"]
    for dtype in ("bfloat16", "float32"):
        (bits,) = re.findall(rf"model, {dtype} +(\d\.\d+)", run.stdout)
        # Other versions of Python carry slightly other text.
        assert float(bits) == pytest.approx(sample["model"], abs=0.1)
        assert float(bits) < sample["trigram"] < sample["unigram"]
    assert len(re.findall(r"\d+ tokens/s with compilation, \d+ without", run.stdout)) == 2
    assert "params are bit-equal" in run.stdout
    assert "NOT FINITE" not in run.stdout


@some_of("name", ["bert-masked-lm", "gpt2-lm-head"], "gpt2-lm-head")
def test_a_checkpoint_that_the_mesh_does_not_divide(name, thorough):
    """It generates with `--all`: to compile that takes three seconds."""
    folder = GOLDENS / name / "checkpoint"
    count = "3" if thorough else "0"
    run = demo(str(folder), "--max-new-tokens", count, "--dtype", "bf16", "--prompt", "a b")
    assert run.returncode == 0, run.stderr
    said = " ".join(run.stdout.split())
    assert "'vocab' of size 61 (shape (61, 24)) does not divide over mesh axes" in said
    assert "another mesh is tried" in said
    assert "mesh fsdp=8" in run.stdout
    assert "float32 -> bfloat16" in run.stdout
    assert "logits (1, 3, 61) bfloat16, finite" in run.stdout
    assert ("greedy:" in run.stdout) == (thorough and name == "gpt2-lm-head")


def test_a_mesh_that_does_not_fit_the_devices():
    folder = GOLDENS / "bert-model" / "checkpoint"
    run = demo(str(folder), "--mesh", "tensor=3")
    assert run.returncode == 0, run.stderr
    assert "make_mesh(tensor=3) does not fit 8 devices" in run.stdout
    assert "finite" in run.stdout and "greedy:" not in run.stdout


def test_no_such_folder(tmp_path):
    run = demo(str(tmp_path / "nothing"))
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        f"demo: {str(tmp_path / 'nothing')!r}: no such folder or file"
    ]


def test_a_folder_that_is_no_checkpoint(tmp_path):
    run = demo(str(tmp_path))
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1 and "config.json" in run.stderr
