"""What an export, a load and a call refuse, and with what words."""

import datetime
import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.commands.cli import main
from flaxmodels.serving.lowering import portable

serving = fm.serving
IDS = np.ones((2, 3), np.int32)


@pytest.fixture
def version(exported, tmp_path):
    """A version folder of its own, to be spoiled."""
    return shutil.copytree(exported, tmp_path / "copy") / "1"


def changed(version, **values):
    """Changes values of `export.json`."""
    path = version / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(version, message):
    with pytest.raises(serving.ServingError, match=message):
        serving.load(version.parent)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"input_ids": IDS}, "misses 'attention_mask': it takes input_ids int32.batch, length."),
        ({"input_ids": IDS, "attention_mask": IDS, "x": IDS}, "has no input 'x'"),
        ({"input_ids": IDS * 1.0, "attention_mask": IDS}, "input_ids is float64; expected int32"),
        ({"input_ids": IDS[0], "attention_mask": IDS}, r"shape \(3,\).*a single row is x\[None\]"),
        (
            {"input_ids": IDS, "attention_mask": IDS[:, :2]},
            r"attention_mask has shape \(2, 2\).*where batch = 2, length = 3",
        ),
        ({"input_ids": IDS[:, :0], "attention_mask": IDS[:, :0]}, "nothing of it empty"),
        ({"input_ids": [[1], [1, 2]], "attention_mask": IDS}, "rows of different lengths"),
        ({"input_ids": IDS.astype(np.int64) << 40, "attention_mask": IDS}, "int32 cannot"),
        (
            {"input_ids": np.uint32(2**31) + IDS.astype("u4"), "attention_mask": IDS},
            "cannot: 2147",
        ),
        (
            {"input_ids": IDS * 64, "attention_mask": IDS},
            r"input_ids\[0, 0\] is 64; .* has 0 to 63",
        ),
        ({"input_ids": -IDS, "attention_mask": IDS}, r"input_ids\[0, 0\] is -1"),
        ({"input_ids": IDS, "attention_mask": IDS * 2}, r"attention_mask\[0, 0\] is 2"),
        ({"input_ids": None, "attention_mask": IDS}, "input_ids is object; expected int32"),
        ({"input_ids": np.ma.array(IDS), "attention_mask": IDS}, "a masked array, whose mask"),
        (
            {"input_ids": np.ones((1, 33), int), "attention_mask": np.ones((1, 33), int)},
            "length is 33, and was exported for at most 32",
        ),
    ],
)
def test_T21_inputs_that_are_not_the_signatures(served, given, message):
    with pytest.raises(serving.ServingError, match=f"serving_default.*{message}"):
        served(**given)


def test_T21_generation_that_the_caches_do_not_hold_and_signatures_that_are_not_there(served):
    with pytest.raises(serving.ServingError, match="30 new ones are 33; .*caches hold 32"):
        served.generate(IDS, max_new_tokens=30)
    with pytest.raises(TypeError, match="decoder_input_ids would have no effect"):
        served.generate(IDS, decoder_input_ids=IDS)
    with pytest.raises(ValueError, match="do_sample needs a key"):
        served.generate(IDS, do_sample=True)
    with pytest.raises(ValueError, match="the model has the tokens 0 to 63"):
        served.generate(IDS * 64)
    with pytest.raises(NotImplementedError, match="num_beams"):
        served.generate(IDS, num_beams=4)
    with pytest.raises(TypeError, match="generation_config is a dict; expected a GenerationConfig"):
        served.generate(IDS, generation_config={"max_new_tokens": 2})
    for name in ("classify", ["classify"]):
        with pytest.raises(serving.ServingError, match="no signature .*classify.*; there are"):
            served.run(name, {})
    with pytest.raises(serving.ServingError, match="inputs are a mapping of arrays by name"):
        served.run("serving_default", [IDS, IDS])
    with pytest.raises(serving.ServingError, match="misses 'attention_mask', 'input_ids'"):
        served.run("serving_default", {3: IDS})


def test_T21_an_expired_export_is_told_with_what_makes_it_again(version):
    old = datetime.date.today() - datetime.timedelta(1)
    changed(version, expires=old.isoformat())
    with pytest.warns(UserWarning, match=f"expired on {old}.*flaxmodels export .* --version 1"):
        serving.load(version.parent)


def test_T21_a_program_that_this_jax_cannot_read(version):
    changed(version, calling_convention=99)
    refused(version, "calling convention 99, and jax .* reads .*Make it again: flaxmodels export")
    changed(version, calling_convention=10)
    raw = b"no program at all"
    (version / "step.jax_export").write_bytes(raw)
    signatures = json.loads((version / "export.json").read_text())["signatures"]
    signatures["step"]["sha256"] = hashlib.sha256(raw).hexdigest()
    changed(version, signatures=signatures)
    refused(version, "step.jax_export: jax .* cannot read it.*Make it again: flaxmodels export")


def test_T21_a_program_of_a_later_jax_is_refused_by_the_load(version, monkeypatch):
    def unknown(self):
        raise RuntimeError("Failed to deserialize StableHLO")

    monkeypatch.setattr(jax.export.Exported, "mlir_module", unknown)
    refused(version, "cannot read it .RuntimeError: Failed.*promised for versions from there until")


def test_T21_a_program_that_was_cut_changed_or_is_of_another_export(version):
    path = version / "step.jax_export"
    raw = path.read_bytes()
    path.write_bytes(raw[:-7])
    refused(version, "step.jax_export: sha256 .* truncated or was changed")
    path.unlink()
    refused(version, "step.jax_export: No such file or directory; the version is half copied")
    other = (version / "prefill.jax_export").read_bytes()
    path.write_bytes(other)
    signatures = json.loads((version / "export.json").read_text())["signatures"]
    signatures["step"]["sha256"] = hashlib.sha256(other).hexdigest()
    changed(version, signatures=signatures)
    refused(version, "export.json says .*: they are of two exports")


def test_T21_a_folder_that_is_no_export_or_half_of_one(version, tmp_path):
    with pytest.raises(serving.ServingError, match="an export is not there; it has no version fo"):
        serving.load(tmp_path / "copy" / "1")
    with pytest.raises(serving.ServingError, match="nothing: No such file"):
        serving.load(tmp_path / "nothing")
    changed(version, platforms=["tpu"])
    refused(version, "exported for tpu, and this device is of 'cpu': export with platforms=")
    changed(version, platforms=["cpu"])
    leaves = json.loads((version / "export.json").read_text())["weights"]
    place = leaves["lm_head/kernel"]["from"][0]
    for odd in ({"permutation": [0, 1]}, {"permutation": [1, 1]}, {"index": [1]}):
        spoilt = {"lm_head/kernel": leaves["lm_head/kernel"] | {"from": [place | odd]}}
        changed(version, weights=leaves | spoilt)
        refused(version, "export.json: not what an export has there: .*lm_head")
    changed(version, platforms=None)
    refused(version, "export.json: not what an export has there")
    changed(version, format_version=7)
    refused(version, "format_version is '7', and this flaxmodels reads 1")
    changed(version, format="other")
    refused(version, "no export of flaxmodels: format 'other'")
    (version / "export.json").write_text('{"format": ')
    refused(version, "export.json")
    (version / "export.json").unlink()
    refused(version, "export.json: No such file.*half copied")


def test_T21_a_manifest_that_lies_is_refused(version):
    told = json.loads((version / "export.json").read_text())

    def lies(message, change, name):
        values = json.loads(json.dumps(told[name]))
        changed(version, **told | {name: change(values)})
        refused(version, message)

    def at(*path, value):
        def change(values):
            place = values
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            return values

        return change

    kernel, first = "lm_head/kernel", ("serving_default", "outputs")
    many = at(kernel, "array", value=f"float32[{10**12}, 16, 64]")
    stacked = at(kernel, "from", 0, "index", value=[0])
    lies("of shape .* is not made by", lambda values: many(stacked(values)), "weights")
    lies("expected names", at(kernel, "axes", value=[3, {}]), "weights")
    lies("cache/mask.* of two exports", lambda slots: 10**6, "slots")
    lies("outputs/logits.* of two exports", at(*first, value=[["x", "int32[3]"]]), "signatures")
    lies("no 'settings'", lambda values: {"vocab_size": 1, "decoder_vocab_size": 1}, "generation")
    lies("has no 'nope'", at("settings", "nope", value=1), "generation")
    lies("max_new_tokens must be", at("settings", "max_new_tokens", value="x"), "generation")
    lies("a size of vocabulary is 'x'", at("vocab_size", value="x"), "generation")
    lies("platforms is 'cpu'; expected a list", lambda values: "cpu", "platforms")


def test_T21_weights_that_are_not_those_of_the_export(llama, version):
    model, params = llama
    other = fm.LlamaForCausalLM(llama[0].config.replace(intermediate_size=48))
    other.save_pretrained(params_of(other), version, progress=False)
    refused(version, "has shape .*, and the export was made with .*replaced; export again")
    model.save_pretrained(fp.to_bf16(params), version, progress=False)
    refused(version, "the weights have bfloat16.*, and the export takes float32")
    model.save_pretrained(params, version, progress=False, select=lambda path, _: "mlp" in path)
    refused(version, "which is not among its weights")
    (version / "model.safetensors").unlink()
    with pytest.raises(fp.CheckpointError):
        serving.load(version.parent)


GIVES_NOTHING = serving.Signature({"input_ids": "int32[b]"}, lambda params, inputs: None)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"version": 0}, "version is 0; expected at least 1"),
        ({"max_length": 0}, "max_length is 0; expected at least 1"),
        ({"signatures": {}}, "signatures is a mapping such as"),
        ({"signatures": {"a b": {}}}, "a signature is called 'a b'"),
        ({"signatures": {"a": {"input_ids": "int32"}}}, "expected .*dtype.dims."),
        ({"signatures": {"a": {"input_ids": "int31[b]"}}}, "unknown dtype 'int31'"),
        ({"signatures": {"a": {"input_ids": "int32[b, -1]"}}}, "neither a number nor a name"),
        ({"signatures": {"a": {"input_ids": 3}}}, "expected a text such as"),
        ({"signatures": {"a": {"ids": "int32[b, t]"}}}, "a of LlamaForCausalLM cannot be expo"),
        ({"signatures": {"a": None}}, "the inputs of a signature are a mapping"),
        ({"signatures": {"a": {3: "int32[b]"}}}, "an input of a signature is called '3'"),
        ({"signatures": {"a": {"input_ids": "int32[b, 0]"}}}, "a dimension of size 0"),
        ({"signatures": {"a": {"input_ids": "int32[max]"}}}, "max is an operation"),
        ({"signatures": {"a": {"input_ids": f"int32[{2**31}]"}}}, "no dimension has a size of"),
        ({"signatures": {"a": GIVES_NOTHING}}, "cannot be exported: its function gives no arrays"),
        ({"signatures": {"a": {"input_ids": "int64[b, t]"}}}, "JAX makes int32 of it unless"),
        ({"signatures": {"a": {"input_ids": "object[b, t]"}}}, "unknown dtype 'object'"),
        ({"max_batch": 0}, "max_batch is 0; expected at least 1"),
        ({"max_batch": True}, "max_batch is True; expected a whole number"),
        ({"generation": "yes"}, "generation is 'yes'; expected True or False"),
        ({"overwrite": "no"}, "overwrite is 'no'; expected True or False"),
        ({"platforms": ("gpu",)}, "platforms: 'gpu'; expected some of cpu, cuda"),
        ({"platforms": ()}, "platforms: none; expected some of"),
        ({"platforms": None}, "platforms: 'None'; expected some of"),
        (
            {"signatures": {"step": {"input_ids": "int32[b, t]"}}, "generation": True},
            "step is the name of one of generation's own",
        ),
    ],
)
def test_T21_what_cannot_be_exported_leaves_nothing(llama, tmp_path, given, message):
    with pytest.raises(serving.ServingError, match=message):
        serving.export(*llama, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_T21_what_is_no_model_and_params_without_a_leaf_are_not_exported(llama, tmp_path):
    model, params = llama
    with pytest.raises(TypeError, match="model is .*; expected a model of this library"):
        serving.export(fm.LlamaForCausalLM, params, tmp_path)
    with pytest.raises(serving.ServingError, match="params have no 'lm_head/kernel', which the"):
        serving.export(model, {"model": params["model"]}, tmp_path)
    with pytest.raises(serving.ServingError, match="the function of a signature is 'argmax'"):
        serving.Signature({"x": "int32[n]"}, "argmax")


def test_T21_what_is_no_folder_of_versions_is_refused(exported, served):
    with pytest.raises(serving.ServingError, match="is a version itself: give the folder that it"):
        serving.load(exported / "1")
    with pytest.raises(TypeError, match="folder is None; expected a folder of versions"):
        serving.load(None)
    with pytest.raises(TypeError, match="progress is 'no'; expected True or False"):
        serving.load(exported, progress="no")
    ids = jnp.asarray(IDS)
    ids.delete()
    with pytest.raises(serving.ServingError, match="input_ids was deleted, or donated"):
        served(input_ids=ids, attention_mask=IDS)


def test_T21_loads_that_contradict_themselves(exported):
    for given, error, message in [
        ({"rules": "fsdp"}, TypeError, "rules are those of a mesh"),
        ({"device": "cpu"}, TypeError, "device is 'cpu'; expected one of jax.devices"),
        ({"mesh": "cpu"}, TypeError, "mesh is a str"),
        ({"version": "1"}, serving.ServingError, "version is '1'; expected a whole number"),
        ({"version": True}, serving.ServingError, "version is True; expected a whole number"),
    ]:
        with pytest.raises(error, match=message):
            serving.load(exported, **given)
    assert serving.load(exported, np.int64(1)).folder.name == "1"


def test_T21_inputs_on_several_devices_and_weights_wider_than_a_program_takes(
    served, llama, tmp_path
):
    ids, mask = (jax.device_put(IDS, device) for device in jax.devices()[2:4])
    with pytest.raises(serving.ServingError, match="serving_default: the inputs and the weights m"):
        served(input_ids=ids, attention_mask=mask)
    model, params = llama
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    with pytest.raises(serving.ServingError, match="lm_head/kernel is float64.*cast the params"):
        serving.export(model, wide, tmp_path)


def test_T21_a_program_has_no_gradient_and_is_not_mapped(served):
    ids = jnp.ones((2, 2, 3), jnp.int32)
    with pytest.raises(serving.ServingError, match="not mapped by vmap: give it a larger batch"):
        jax.vmap(lambda x: served(input_ids=x, attention_mask=x))(ids)


def test_T21_a_program_that_depends_on_the_size_says_why(llama, tmp_path):
    def rows(params, given):
        return {"x": given["input_ids"] if given["input_ids"].shape[1] > 8 else IDS}

    signature = serving.Signature({"input_ids": "int32[batch, length]"}, rows)
    with pytest.raises(serving.ServingError, match="depends on the size .*a number|int32.batch"):
        serving.export(*llama, tmp_path, signatures={"rows": signature})
    sparse = fm.BigBirdConfig(
        **{"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "block_size": 2, "num_random_blocks": 1},
        attention_type="block_sparse",
    )
    model = fm.BigBirdModel(sparse)
    with pytest.raises(serving.ServingError, match="block-sparse beyond 14 tokens"):
        serving.export(model, params_of(model), tmp_path)


def test_T21_a_function_of_a_script_is_not_exported_again_by_the_command(llama, tmp_path, capsys):
    best = serving.Signature({"x": "float32[n]"}, lambda params, given: {"y": given["x"] * 2})
    serving.export(*llama, tmp_path, signatures={"best": best})
    served = serving.load(tmp_path)
    np.testing.assert_array_equal(served(x=jnp.arange(3.0))["y"], [0, 2, 4])
    with pytest.raises(serving.ServingError, match="exported without prefill and step"):
        served.generate(IDS)
    assert main(["export", str(tmp_path)]) == 1
    assert "best runs a function of the script" in capsys.readouterr().err
    assert serving.load(tmp_path).manifest == served.manifest


def test_T21_flash_attention_is_exported_as_one_that_every_platform_runs(llama):
    model = llama[0].clone(attn_implementation="flash", remat="full")
    with pytest.warns(UserWarning, match="'flash' is cuDNN's: the export computes .*'sdpa'"):
        assert portable(model) == llama[0]
