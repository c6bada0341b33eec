"""The programs of `examples/`, which users copy: each runs, at a small size, and goes on."""

import argparse
import json
import re

import _children
import _stand_in
import _training
import classify
import distil
import dpo
import finetune
import jax
import jax.numpy as jnp
import lora
import masked_lm
import numpy as np
import pretrain
import pytest
import qlora
import summarize
from _paths import ROOT

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import training
from flaxmodels.core.outputs import LogitsOutput

SMALL = ["--width", "16", "--layers", "1", "--words", "100"]
FEW = ["--steps", "4", "--batch", "8", "--every", "2"]
PROGRAMS = {
    module.__name__: module
    for module in (classify, distil, dpo, finetune, lora, masked_lm, pretrain, qlora, summarize)
}


@pytest.fixture
def bundled(monkeypatch):
    monkeypatch.setattr(fm, "bundled_checkpoint", _stand_in.bundled_checkpoint)


def lines_of(folder):
    """The lines of training, without those of what is held out."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def steps_of(folder):
    return [line["step"] for line in lines_of(folder)]


def test_each_program_has_a_test_and_is_short():
    programs = {path.stem: path for path in (ROOT / "examples").glob("[!_]*.py")}
    assert programs.keys() == PROGRAMS.keys()
    lengths = {name: len(path.read_text().splitlines()) for name, path in programs.items()}
    assert max(lengths.values()) < 120 and lengths["qlora"] <= 40


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_each_program_says_what_it_takes(name, capsys):
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[name].main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"python examples/{name}.py [--folder run]" in said and "--steps" in said


def test_pretrain_goes_on_where_it_was_cut_off(tmp_path, monkeypatch, capsys):
    """Both runs have the compiled steps of the first."""
    made = []
    compiled = lambda *x, **how: made[0] if made else made.append(steps(*x, **how)) or made[0]  # noqa: E731
    steps = training.compile
    monkeypatch.setattr(training, "compile", compiled)
    taken = pretrain.train

    def cut_off(steps, start, batches, args, others):
        return taken(steps, start, batches, argparse.Namespace(**vars(args) | {"steps": 4}), others)

    how = [*SMALL, *FEW, "--steps", "6", "--devices", "2", "--folder", str(tmp_path)]
    with monkeypatch.context() as patched:
        patched.setattr(pretrain, "train", cut_off)
        pretrain.main(how)
    result = pretrain.main(how)
    assert result["loss"] < np.log(100) and 2 < result["baseline"] < np.log(100)
    assert steps_of(tmp_path) == [1, 2, 4, 5, 6]
    assert {x.name for x in tmp_path.iterdir()} == {"checkpoints", "loss.png", "metrics.jsonl"}
    assert "held_out_loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "metric", "how"),
    [
        pytest.param(
            *(masked_lm, "accuracy"),
            [*SMALL, "--mesh", "fsdp", "--devices", "2"],
            marks=pytest.mark.soak,
        ),
        pytest.param(classify, "accuracy", [*SMALL, "--devices", "2"], marks=pytest.mark.soak),
        pytest.param(summarize, "overlap", [*SMALL, "--devices", "1"], marks=pytest.mark.soak),
        pytest.param(distil, "loss", ["--devices", "2"], marks=pytest.mark.soak),
        pytest.param(distil, "loss", ["--alone", "--devices", "2"], marks=pytest.mark.soak),
        pytest.param(dpo, "preferred", ["--devices", "1"], marks=pytest.mark.soak),
    ],
)
def test_each_program_prints_a_measure_and_its_baseline(program, metric, how, bundled, capsys):
    result = program.main([*FEW, *how])
    assert np.isfinite([*result.values()]).all() and 0 < result["baseline"]
    assert 0 <= result[metric] <= (1 if metric != "loss" else 10)
    said = capsys.readouterr().out
    assert "held out: " in said and "\n       1 " in said


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:Weights from")  # the head is new, and that of Llama is left
def test_finetune_leaves_the_embeddings_as_they_were(bundled, monkeypatch):
    states = []
    train = _training.train
    monkeypatch.setattr(finetune, "train", lambda *x: states.append(train(*x)) or states[0])
    result = finetune.main([*FEW, "--devices", "2"])
    assert 0 <= result["accuracy"] <= 1 and 0.5 <= result["baseline"] < 1
    (path,) = fp.flatten(states[0].frozen)
    assert path == "model/embed_tokens/embedding" and int(states[0].step) == 4


@pytest.mark.soak
def test_lora_saves_the_adapter_and_what_is_merged(bundled, tmp_path):
    how = ["--devices", "1", "--merge", "--folder", str(tmp_path)]
    result = lora.main([*FEW, *how])
    assert result["loss"] < result["baseline"]
    model, params = fm.AutoModelForCausalLM.from_pretrained(tmp_path / "adapter", progress=False)
    merged, plain = fm.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", progress=False)
    ids = jnp.asarray([list(b"Return a future, ")])
    run = jax.jit(model.apply)
    expected = run({"params": fp.to_fp32(params)}, ids).logits
    found = run({"params": fp.to_fp32(plain)}, ids).logits
    np.testing.assert_allclose(found, expected, atol=0.05 * float(abs(expected).max()))


def test_P12_qlora_trains_the_adapter_alone_which_is_saved_and_merged(bundled, tmp_path):
    model, params, _ = qlora.main([*FEW, "--devices", "1", "--folder", str(tmp_path)])
    _, plain = model.from_pretrained(fm.bundled_checkpoint(), scan_layers=True, progress=False)
    base = jax.jit(fp.quantize, static_argnums=1)(plain, "nf4")
    params = jax.device_put(params, jax.devices()[0])
    assert fp.diff(fp.without_adapters(params), base).equal
    trained = fp.flatten(fp.split_adapters(params)[0])
    assert all(leaf.any() for leaf in trained.values())
    again = model.load_adapter(base, tmp_path / "adapter")
    assert fp.diff(fp.split_adapters(again)[0], fp.split_adapters(params)[0]).equal
    ids = np.frombuffer(b"Return a future, ", np.uint8)[None].astype(np.int32)
    in_float32 = fp.to_fp32(again)
    both = jax.jit(lambda *trees: [model.apply({"params": x}, ids).logits for x in trees])
    merged, beside = both(model.merge_adapter(in_float32), in_float32)
    np.testing.assert_allclose(merged, beside, atol=2e-4)


@pytest.mark.soak
def test_P12_qlora_reaches_what_training_all_weights_does():
    how = ["--steps", "60", "--batch", "8"]
    full, adapted = qlora.main([*how, "--full"])[2], qlora.main(how)[2]
    untrained = qlora.main(["--steps", "1", "--batch", "8"])[2]
    assert adapted < 1.03 * full and full < untrained - 0.03


@pytest.mark.soak
def test_two_processes_of_launch_train_as_one(tmp_path, thorough):
    """Rows are drawn alike, and each process has its share. The texts of this process are others:
    it has functions of its own in `socket`."""

    def run(count):
        program = [ROOT / "examples" / "pretrain.py", *SMALL, *FEW, "--steps", "2", "--every", "1"]
        line = ["-n", str(count), *program, "--folder", tmp_path / str(count)]
        result = _children.run(ROOT / "scripts/launch.py", *line, timeout=240)
        assert result.returncode == 0, result.stdout + result.stderr[-3000:]
        said = re.findall(r"^\[\d\] held out: loss ([\d.]+)", result.stdout, re.MULTILINE)
        assert len(said) == 1  # the main process alone
        return float(said[0])

    assert run(2) < np.log(100) and steps_of(tmp_path / "2") == [1, 2]
    if thorough:
        run(1)
        two, one = ([line["loss"] for line in lines_of(tmp_path / n)] for n in ("2", "1"))
        np.testing.assert_allclose(two, one, rtol=1e-5)


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"pretrain"}))
def test_two_processes_of_launch_run_each_program(name, tmp_path):
    sizes = SMALL if name in ("masked_lm", "classify", "summarize") else []
    more = ["--merge"] if name == "lora" else []
    program = [ROOT / "examples" / f"{name}.py", *sizes, *FEW, *more, "--folder", tmp_path]
    result = _children.run(ROOT / "scripts/launch.py", "-n", "2", *program, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert "[0] held out: " in result.stdout and steps_of(tmp_path) == [1, 2, 4]


def test_preferences_are_of_pairs():
    rows = np.arange(4 * 64).reshape(4, 64)
    made = dpo.pairs(rows)
    assert (made["input_ids"][:, 0] == rows).all()
    assert (made["input_ids"][0, 1] == [*range(32), *range(96, 128)]).all()
    assert (made["labels"][:, :, :32] == -100).all() and (
        made["labels"][0, 0, 32:] == rows[0, 32:]
    ).all()
    logits = np.zeros((2, 3, 4), np.float32)
    logits[0, 1, 2] = 5.0
    after = np.array([[-100, 2, -100], [-100, 3, -100]])
    expected = np.array([5.0, 0.0]) - np.log([np.exp(5) + 3, 4])
    labels = {"labels": np.array([[0, -100, 2], [0, -100, 3]]), "reference": np.float32(expected)}

    @jax.jit
    def run(logits):
        loss = dpo.dpo(LogitsOutput(logits=logits), labels, 0.5)
        return dpo.log_probability(after, logits), dpo.preferred(after, logits), loss

    found, preferred, loss = run(logits)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert preferred.tolist() == [True]
    np.testing.assert_allclose(loss, [np.log(2)], rtol=1e-6)  # as much as the reference


def test_the_divergence_is_that_of_the_distributions():
    rng = np.random.default_rng(0)
    student, teacher = rng.standard_normal((2, 2, 3, 5)).astype(np.float32)
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (teacher, student))
    run = jax.jit(lambda x, y: distil.divergence(LogitsOutput(logits=x), {"teacher": y}))
    found = run(student, teacher)
    np.testing.assert_allclose(found, (p * np.log(p / q)).sum(-1), rtol=1e-4, atol=1e-6)


def test_unigrams_are_counted():
    loss = pretrain.unigram_loss([[0, 1, 1, 2]], [[0, 1, 2]])
    assert loss == pytest.approx(-(np.log(3 / 6) + np.log(2 / 6)) / 2)


def test_texts_become_words_and_words_texts():
    vocabulary = _training.Vocabulary.of(["A b. A c", "a B"], 8)
    assert vocabulary.words == (*_training.SPECIAL, "a", "b", ".")
    assert vocabulary(["b a", "c a"]) == [[0, 6, 5, 2], [0, 3, 5, 2]]
    assert [vocabulary.text(row) for row in ([0, 6, 5, 2, 1], [0, 3, 5])] == ["b a", "a"]
    assert summarize.overlap("a b c", "a c d e") == pytest.approx(4 / 7)
