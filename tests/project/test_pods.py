"""The program of docs/pods.md runs, in two processes, started as the page says."""

import re

import _children
import pytest
from _drawn import params_of, tiny_llama
from _paths import ROOT

import flaxmodels as fm

PAGE = (ROOT / "docs" / "pods.md").read_text()


@pytest.mark.soak
def test_the_program_of_the_page_runs_in_two_processes(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    sizes = {"vocab_size": 256, "hidden_size": 32, "num_attention_heads": 4}
    model = fm.LlamaForCausalLM(tiny_llama(**sizes, initializer_range=0.3))
    model.save_pretrained(params_of(model), tmp_path / "tiny")
    text = program.replace("gs://bucket/llama-3.1-8b", str(tmp_path / "tiny"))
    text = text.replace("/mnt/shared/tuned", str(tmp_path / "tuned"))
    assert text.count(str(tmp_path)) == 2 and text.count("1e-5") == 1
    text = text.replace("1e-5", "1e-2")  # it has learned nothing yet
    quick = 'import jax\njax.config.update("jax_disable_most_optimizations", True)\n'
    (tmp_path / "pod.py").write_text(quick + text)
    (line,) = re.findall(r"^\$ scripts/launch (-n .*)$", PAGE, re.MULTILINE)
    result = _children.run(ROOT / "scripts/launch.py", *line.split(), cwd=tmp_path, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    said = [text for text in result.stdout.splitlines() if text.startswith("[0] ")]
    assert any("load plan of" in text for text in said) and "[0] generated (8, 24)" in said
    losses = [float(text.split()[-1]) for text in said if "loss" in text]
    assert len(losses) == 3 and losses[2] < losses[0]
    _, params = fm.AutoModelForCausalLM.from_pretrained(tmp_path / "tuned")
    assert params["lm_head"]["kernel"].shape[-1] == 256


def test_what_the_page_quotes_is_what_is_said():
    """The words of the errors stand in the code."""
    code = " ".join(
        " ".join((ROOT / name).read_text().split()).replace('" f"', "").replace('" "', "")
        for name in (
            "sharding/joining.py",
            "params/peers.py",
            "params/process_deaths.py",
            "params/process_agreement.py",
            "params/multihost.py",
        )
    )
    for words in (
        "cannot reach the coordinator at",
        "process 0 listens there once it has called initialize; check that it runs, the address",
        "all processes of a run must ask for the same",
        "did not come to",
        "all processes of a run must make the same calls, in the same order",
        "of this run died; this one,",
        "failed: ",
    ):
        assert words in code and words in " ".join(PAGE.split())
