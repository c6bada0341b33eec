"""Exports: written, read again, run without the model's code, and refused where they are not right.

One export of a tiny Llama serves most tests: programs of other shapes are compiled again."""

import importlib
import importlib.util
import json
import re
import shutil

import _children
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from _drawn import applied, params_of, tiny_llama
from _paths import ROOT

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.commands.cli import main

serving = fm.serving
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
IDS = np.random.default_rng(0).integers(3, 60, (3, 5)).astype(np.int32)
ONES = np.ones_like(IDS)


def test_T21_any_batch_and_length_run_without_another_export(llama, served):
    model, params = llama
    for batch, length in ((1, 1), (7, 32)):
        ids = np.random.default_rng(batch).integers(3, 60, (batch, length))
        out = served(input_ids=ids, attention_mask=np.ones_like(ids))
        assert out.keys() == {"logits"}
        want = applied(model, params, jnp.asarray(ids, jnp.int32)).logits
        np.testing.assert_allclose(out["logits"], want, atol=1e-5)


def test_T21_what_is_generated_is_what_the_model_generates(llama, served):
    model, params = llama
    mask = ONES.copy()
    mask[0, :2] = 0
    draw = {"do_sample": True, "top_k": 9, "temperature": 0.7, "key": jax.random.key(3)}
    settings = {"max_new_tokens": 6, "pad_token_id": 0, **draw}
    want = model.generate(params, IDS, mask, **settings)
    # under jit, where temperatures may be known to the running program alone; not so: the page
    settings.pop("temperature")
    run = jax.jit(lambda ids, t: served.generate(ids, mask, temperature=t, **settings))
    have = run(IDS, 0.7)
    np.testing.assert_array_equal(have.sequences, want.sequences)
    np.testing.assert_array_equal(have.lengths, want.lengths)


FORGET = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "flaxmodels"]:
    del sys.modules[name]  # the process forked from one that has a family's code
"""
TOLD = """
code = [name for name in sys.modules if name.startswith(("flaxmodels.models", "flaxmodels.famil"))]
assert not code, code
np.savez("said.npz", ids=ids, logits=out["logits"], sequences=said.sequences)
"""


def test_T21_snippets_of_the_page_run_and_a_fresh_process_has_none_of_the_models_code(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "serving.md").read_text()
    export, run, signatures = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    model = fm.LlamaForCausalLM(tiny_llama(vocab_size=256, num_hidden_layers=1))
    model.save_pretrained(params_of(model), "saved", progress=False)
    monkeypatch.setattr(fm, "bundled_checkpoint", lambda: "saved")  # of fewer layers
    scope: dict = {}
    exec(export, scope)
    done = _children.run("-c", FORGET + run + TOLD)
    assert done.returncode == 0, done.stderr
    with np.load("said.npz") as file:
        said = {**file}
    want = applied(scope["model"], scope["params"], said["sequences"]).logits
    length = said["ids"].shape[1]
    np.testing.assert_allclose(said["logits"], want[:, :length], atol=1e-4)
    np.testing.assert_array_equal(said["sequences"][:, :length], said["ids"])
    best = want[:, length - 1 : -1].argmax(-1)
    np.testing.assert_array_equal(said["sequences"][:, length:], best)
    exec(signatures, scope | {"serving": serving, "ids": said["ids"]})


def test_T21_a_version_folder_is_a_checkpoint_and_holds_no_pickle(llama, exported):
    path = exported / "1"
    assert {file.name for file in path.iterdir()} == {
        "config.json",
        "export.json",
        "model.safetensors",
        "prefill.jax_export",
        "serving_default.jax_export",
        "step.jax_export",
    }
    model, params = fm.AutoModelForCausalLM.from_pretrained(path)
    assert model.config.replace(extra={}) == llama[0].config
    assert fp.diff(params, llama[1]).equal
    manifest = serving.load(exported).manifest
    assert (manifest.expires - manifest.exported).days == 180
    assert manifest.platforms == ("cpu", "cuda", "tpu") and manifest.libraries["jax"]
    # weights are arguments, not constants of a program
    stored = np.asarray(llama[1]["lm_head"]["kernel"]).tobytes()
    assert all(stored not in (path / x.file).read_bytes() for x in manifest.programs.values())


def test_T21_versions_lie_beside_each_other_and_none_is_replaced_unasked(llama, exported, tmp_path):
    model, params = llama
    folder = shutil.copytree(exported, tmp_path / "versions")
    with pytest.raises(serving.ServingError, match="version 1 is there.*overwrite=True"):
        serving.export(model, params, folder)
    doubled = fp.scale(params, 2.0)
    signatures = {"serving_default": {"input_ids": "int32[batch, 5]"}}
    serving.export(model, doubled, folder, 2, signatures=signatures, platforms="cpu")
    assert serving.load(folder).manifest.bounds == {}
    assert serving.load(folder, 1).signatures.keys() > {"prefill", "step"}
    out = serving.load(folder)(input_ids=IDS)["logits"]
    np.testing.assert_allclose(out, applied(model, doubled, IDS).logits, atol=1e-4)
    how = {"signatures": signatures, "platforms": "cpu"}
    serving.export(model, params, folder, 1, **how, overwrite=True)
    assert {file.suffix for file in (folder / "1").iterdir()} == {
        ".json",
        ".safetensors",
        ".jax_export",
    }
    assert serving.load(folder, 1).signatures.keys() == {"serving_default"}
    with pytest.raises(serving.ServingError, match="version 3 is not there; it has versions 1, 2"):
        serving.load(folder, 3)


def test_T21_save_pretrained_writes_a_saved_model_beside_the_weights(llama, tmp_path):
    model, params = llama
    signatures = {"serving_default": {"input_ids": "int32[batch, 5]"}}
    model.save_pretrained(
        params, tmp_path, saved_model=True, version=4, signatures=signatures, progress=False
    )
    assert (tmp_path / "model.safetensors").exists()
    out = serving.load(tmp_path / "saved_model", 4)(input_ids=IDS)
    np.testing.assert_allclose(out["logits"], applied(model, params, IDS).logits, atol=1e-5)
    with pytest.raises(TypeError, match="version is of a saved model: give saved_model=True"):
        model.save_pretrained(params, tmp_path, version=2)
    with pytest.raises(TypeError, match="saved_model is 'h5'"):
        model.save_pretrained(params, tmp_path, saved_model="h5")


@pytest.mark.skipif(HAS_TENSORFLOW, reason="tensorflow is here")
def test_T21_tensorflows_format_says_what_it_needs(llama, tmp_path):
    with pytest.raises(ImportError, match="pip install tensorflow-cpu, or give saved_model=True"):
        llama[0].save_pretrained(llama[1], tmp_path / "x", saved_model="tensorflow")
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="tensorflow is not installed")
def test_T21_tensorflow_runs_what_is_saved(llama, tmp_path):
    tf = importlib.import_module("tensorflow")
    model, params = llama
    model.save_pretrained(params, tmp_path, saved_model="tensorflow", version=3)
    run = tf.saved_model.load(str(tmp_path / "saved_model" / "3")).signatures["serving_default"]
    specs = run.structured_input_signature[1]
    assert {name: (x.dtype.name, x.shape.as_list()) for name, x in specs.items()} == {
        "input_ids": ("int32", [None, None]),
        "attention_mask": ("int32", [None, None]),
    }
    out = run(input_ids=tf.constant(IDS), attention_mask=tf.constant(ONES))
    np.testing.assert_allclose(out["logits"], applied(model, params, IDS).logits, atol=1e-5)


def test_T21_the_command_makes_an_export_again(llama, exported, tmp_path, capsys):
    folder = shutil.copytree(exported, tmp_path / "again")
    old = json.loads((folder / "1" / "export.json").read_text())
    assert old["command"].startswith("flaxmodels export ")
    assert main(["export", str(folder), "--max-batch", "5"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "1")
    new = json.loads((folder / "1" / "export.json").read_text())
    assert new["bounds"] == {"batch": 5, "length": 32}
    assert new["params"] == old["params"] and new["slots"] == old["slots"]
    with pytest.raises(serving.ServingError, match="batch is 6, and was exported for at most 5"):
        serving.load(folder)(input_ids=np.ones((6, 2), int), attention_mask=np.ones((6, 2), int))


def test_T22_serving_is_a_function_of_params_and_inputs(llama):
    config = llama[0].config.replace(output_hidden_states=True)
    out = jax.eval_shape(fm.LlamaForCausalLM(config).serving(), llama[1], {"input_ids": IDS})
    assert {name: x.shape for name, x in out.items()} == {
        "logits": (3, 5, 64),
        "hidden_states": (2, 3, 5, 16),
    }


def test_T23_an_output_becomes_a_flat_dict_and_may_be_overridden(llama):
    class Served(fm.LlamaForCausalLM):
        def serving_output(self, output):
            return {"best": super().serving_output(output)["logits"].argmax(-1)}

    model = Served(llama[0].config)
    out = jax.eval_shape(model.serving(), llama[1], {"input_ids": IDS})
    assert {name: x.shape for name, x in out.items()} == {"best": (3, 5)}
    flat = llama[0].serving_output((IDS, {"a": {"b": ONES}}))
    assert [*flat] == ["output_0", "output_1/a/b"]


def test_T21_quantised_adapted_and_stacked_params_are_arguments(tmp_path):
    tiny = tiny_llama(eos_token_id=None, num_hidden_layers=1)
    model = fm.LlamaForCausalLM(tiny, scan_layers=True)
    params = jax.jit(lambda params: fp.quantize(params, "int8"))(params_of(model))
    lora = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}
    params = model.add_adapter(params, {**lora, "init_lora_weights": False})
    serving.export(model, params, tmp_path, max_length=16, platforms=("cpu",), generation=False)
    served = serving.load(tmp_path)
    names = {name.rpartition("kernel/")[2] for name in served.params}
    assert {"base/data", "adapters/default/a", "data", "scale"} <= names
    out = served(input_ids=IDS, attention_mask=ONES)["logits"]
    np.testing.assert_allclose(out, applied(model, params, IDS).logits, atol=1e-5)
    assert main(["export", str(tmp_path)]) == 1


@pytest.mark.soak  # two passes of both halves are compiled for each way to begin
def test_T21_an_encoder_decoder_generates_from_its_programs(tmp_path):
    model, params = reference.load("t5").load("T5ForConditionalGeneration")
    serving.export(model, params, tmp_path, max_length=12, platforms=("cpu",))
    served = serving.load(tmp_path)
    mask = ONES.copy()
    mask[0, 3:] = 0
    settings = {"max_new_tokens": 4, "decoder_start_token_id": 0}
    for given in ({}, {"decoder_input_ids": IDS[:, :2]}):
        have = served.generate(IDS, mask, **settings, **given)
        want = model.generate(params, IDS, mask, **settings, **given)
        np.testing.assert_array_equal(have.sequences, want.sequences)
    assert [*served.signatures["serving_default"].inputs] == [
        "input_ids",
        "attention_mask",
        "decoder_input_ids",
        "decoder_attention_mask",
    ]


def test_T21_weights_are_spread_over_a_mesh(llama, exported):
    mesh = fs.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])
    served = serving.load(exported, mesh=mesh)
    kernel = served.params["model/layers/0/mlp/up_proj/kernel"]
    assert not kernel.sharding.is_fully_replicated
    out = served(input_ids=IDS, attention_mask=ONES)["logits"]
    np.testing.assert_allclose(out, applied(*llama, IDS).logits, atol=1e-5)
