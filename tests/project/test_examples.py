"""The programs of `examples/`, which users copy: each learns, at a small size."""

import _training
import classify
import finetune
import jax
import masked_lm
import numpy as np
import pytest
import qlora
import summarize
from _paths import ROOT

from flaxmodels import bundled_checkpoint
from flaxmodels import params as fp

SMALL = ["--steps", "20", "--batch", "16", "--width", "32", "--words", "300"]


def test_each_program_has_a_test():
    programs = {path.stem for path in (ROOT / "examples").glob("[!_]*.py")}
    assert programs == {"classify", "finetune", "masked_lm", "qlora", "summarize"}


@pytest.mark.filterwarnings("ignore:Weights from")  # the head is new, and that of Llama is left
def test_finetune_learns_and_continues_where_it_was_cut_off(tmp_path, capsys):
    how = ["--folder", str(tmp_path / "run"), "--batch", "8", "--devices", "2"]
    first = finetune.main(["--steps", "10", *how])
    assert finetune.main(["--steps", "20", *how]) < first - 0.05
    steps = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert steps == ["step 1", "step 10", "step 20"]


def test_P12_qlora_trains_the_adapter_alone_which_is_saved_and_merged(tmp_path):
    model, params, _ = qlora.main(["--steps", "4", "--batch", "4", "--folder", str(tmp_path)])
    _, plain = model.from_pretrained(bundled_checkpoint(), scan_layers=True, progress=False)
    base = fp.quantize(plain, "nf4")
    assert fp.diff(fp.without_adapters(params), base).equal
    trained = fp.flatten(fp.split_adapters(params)[0])
    assert all(leaf.any() for leaf in trained.values())
    again = model.load_adapter(base, tmp_path)
    assert fp.diff(fp.split_adapters(again)[0], fp.split_adapters(params)[0]).equal
    ids = np.frombuffer(b"Return a future, ", np.uint8)[None].astype(np.int32)
    run = jax.jit(lambda params: model.apply({"params": params}, ids).logits)
    merged = run(model.merge_adapter(again))
    np.testing.assert_allclose(merged, run(params), atol=0.05 * np.abs(merged).max())
    in_float32 = fp.to_fp32(again)
    merged = run(model.merge_adapter(in_float32))
    np.testing.assert_allclose(merged, run(in_float32), atol=2e-4)


@pytest.mark.soak
def test_P12_qlora_reaches_what_training_all_weights_does():
    how = ["--steps", "60", "--batch", "8"]
    full, adapted = qlora.main([*how, "--full"])[2], qlora.main(how)[2]
    untrained = qlora.main(["--steps", "1", "--batch", "1"])[2]
    assert adapted < 1.03 * full and full < untrained - 0.03


@pytest.mark.parametrize(
    ("program", "metric", "how"),
    [
        (masked_lm, "accuracy", ["--devices", "2"]),
        pytest.param(
            *(classify, "accuracy"),
            ["--devices", "2", "--mesh", "fsdp", "--dtype", "bfloat16"],
            marks=pytest.mark.soak,
        ),
        pytest.param(summarize, "overlap", ["--devices", "1"], marks=pytest.mark.soak),
    ],
)
def test_a_program_learns_and_prints_a_measure(program, metric, how, capsys):
    result = program.main([*SMALL, *how])
    assert result["last"] < result["first"] - 0.05
    assert 0 <= result[metric] <= 1
    assert "held out: " in capsys.readouterr().out


def test_words_are_hidden_as_bert_hides_them():
    rng = np.random.default_rng(0)
    ids = np.full((400, 100), 7)
    ids[:, 0], ids[:, -20:] = _training.BOS, _training.PAD
    seen, targets = masked_lm.hidden(ids, rng, 1000)
    chosen = targets >= 0
    assert (targets[chosen] == 7).all() and not chosen[ids != 7].any()
    assert (seen[~chosen] == ids[~chosen]).all()
    assert abs(chosen.sum() / (ids == 7).sum() - 0.15) < 0.01
    masked, kept = seen[chosen] == _training.MASK, seen[chosen] == 7
    assert abs(masked.mean() - 0.8) < 0.02 and abs(kept.mean() - 0.1) < 0.02
    others = seen[chosen][~masked & ~kept]
    assert others.min() >= len(_training.SPECIAL) and len(np.unique(others)) > 200


def test_texts_become_words_and_words_texts():
    vocabulary = _training.Vocabulary.of(["A b. A c", "a B"], 8)
    assert vocabulary.words == (*_training.SPECIAL, "a", "b", ".")
    ids = vocabulary.ids(["b a", "c a a a a"], 6)
    assert ids.tolist() == [[0, 6, 5, 2, 1, 1], [0, 3, 5, 5, 5, 2]]
    assert [vocabulary.text(row) for row in ids] == ["b a", "a a a"]
    assert summarize.overlap("a b c", "a c d e") == pytest.approx(4 / 7)
