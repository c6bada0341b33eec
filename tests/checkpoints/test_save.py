"""`save_pretrained`: what it writes, what it keeps, and what a failure leaves behind."""

import functools
import json
import os
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _paths import GOLDENS
from _turns import in_turn, some_of
from _weights import uniform
from flax import linen as nn
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import auto
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.params.save import leaf_pieces

CASES = ("bert-pre-training", "bert-untied", "gpt2-lm-head", "llama-causal-lm", "llama-tied")


def load(folder, **kwargs):
    config = folder if (Path(folder) / "config.json").exists() else Path(folder).parent
    return auto.architecture(str(config)).from_pretrained(folder, **kwargs)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_equal(one, two):
    one, two = fp.flatten(one), fp.flatten(two)
    assert one.keys() == two.keys()
    for path, leaf in one.items():
        assert leaf.dtype == two[path].dtype, path
        np.testing.assert_array_equal(leaf, two[path], err_msg=path)


HOWS = {
    f"{format}{'-sharded' * is_sharded}{'-scan' * scan}": (
        {"safe_serialization": format == "safetensors"}
        | ({"max_shard_size": "10KB"} if is_sharded else {}),
        scan,
    )
    for format in ("safetensors", "msgpack")
    for is_sharded in (False, True)
    for scan in (False, True)
}


@in_turn("golden", CASES, "how", [*HOWS])
def test_P28_F10_round_trip_is_bit_equal(tmp_path, golden, how):
    how, scan_layers = HOWS[how]
    model, params = load(GOLDENS / golden / "checkpoint", scan_layers=scan_layers)
    params = fp.to_bf16(params, lambda path, _: path.endswith("kernel"))
    model.save_pretrained(params, tmp_path / "saved", **how)
    again, back = load(tmp_path / "saved", scan_layers=scan_layers)
    assert type(again) is type(model)
    assert_equal(back, params)
    ours = again.config.replace(**{k: None for k in ("architectures", "dtype", "torch_dtype")})
    theirs = model.config.replace(**{k: None for k in ("architectures", "dtype", "torch_dtype")})
    assert ours == theirs


@pytest.mark.parametrize("golden", ["bert-masked-lm", "gpt2-lm-head", "llama-causal-lm"])
def test_P28_7_names_and_layouts_are_those_the_reference_wrote(tmp_path, golden):
    source = GOLDENS / golden / "checkpoint"
    model, params = load(source)
    model.save_pretrained(params, tmp_path / "saved")
    ours, theirs = (
        load_file(tmp_path / "saved/model.safetensors"),
        load_file(source / "model.safetensors"),
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)


def test_D19_msgpack_is_what_old_flax_wrote(tmp_path):
    for golden in ("flax-gpt2-lm-head", "flax-llama-causal-lm", "flax-bert-masked-lm"):
        source = GOLDENS / golden / "checkpoint"
        model, params = load(source)
        model.save_pretrained(params, tmp_path / golden, safe_serialization=False)
        ours = fp.open_checkpoint(tmp_path / golden / "flax_model.msgpack")
        theirs = fp.open_checkpoint(source / "flax_model.msgpack")
        assert ours.tensors.keys() == theirs.tensors.keys()
        for name, tensor in theirs.tensors.items():
            np.testing.assert_array_equal(ours[name].read(), tensor.read(), err_msg=name)


def test_sharded_params_are_saved_as_unsharded_ones(tmp_path):
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    rules = (("vocab", None), *fs.DEFAULT_RULES)
    source = GOLDENS / "llama-causal-lm" / "checkpoint"
    model, spread = load(source, mesh=mesh, rules=rules)
    _, alone = load(source)
    model.save_pretrained(spread, tmp_path / "spread")
    model.save_pretrained(alone, tmp_path / "alone")
    assert contents(tmp_path / "spread") == contents(tmp_path / "alone")


def test_config_says_what_was_saved(tmp_path):
    model, params = load(GOLDENS / "llama-causal-lm" / "checkpoint")
    model.save_pretrained(fp.to_bf16(params), tmp_path / "half")
    values = json.loads((tmp_path / "half" / "config.json").read_text())
    assert values["architectures"] == ["LlamaForCausalLM"]
    assert values["dtype"] == values["torch_dtype"] == "bfloat16"
    assert values["rope_parameters"]["rope_theta"] == values["rope_theta"]
    assert (tmp_path / "half" / "generation_config.json").exists()


def test_other_files_stay_and_stale_weights_go(tmp_path):
    model, params = load(GOLDENS / "llama-causal-lm" / "checkpoint")
    folder = tmp_path / "saved"
    model.save_pretrained(params, folder, max_shard_size="10KB")
    (folder / "README.md").write_text("mine")
    (folder / "tokenizer.json").write_text("{}")
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    model.save_pretrained(params, folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert not list(tmp_path.glob(".saved.tmp-*"))


@pytest.mark.parametrize("fail_at", [0, 1, 3])
def test_a_save_that_fails_leaves_the_folder_as_it_was(tmp_path, monkeypatch, fail_at):
    model, params = load(GOLDENS / "llama-causal-lm" / "checkpoint")
    folder = tmp_path / "saved"
    model.save_pretrained(params, folder, max_shard_size="20KB")
    before = contents(folder)
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > fail_at:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    changed = jax.tree.map(lambda x: np.asarray(x) + 1, params)
    with pytest.raises(fm.CheckpointError, match="saved: not saved: No space left"):
        model.save_pretrained(changed, folder, max_shard_size="20KB")
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_params_that_are_not_the_models_are_refused_before_anything_is_written(tmp_path):
    model, params = load(GOLDENS / "llama-causal-lm" / "checkpoint")
    wrong = [
        ({"model": params["model"]}, "lm_head/kernel is not in the params"),
        (params | {"more": jnp.ones(3)}, "more is no leaf of the model"),
        (params | {"lm_head": {"kernel": jnp.ones((3, 4))}}, r"lm_head/kernel has shape \(3, 4\)"),
    ]
    for tree, message in wrong:
        with pytest.raises(fm.CheckpointError, match=message):
            model.save_pretrained(tree, tmp_path / "saved")
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="max_shard_size is '5 parsecs'"):
        model.save_pretrained(params, tmp_path / "saved", max_shard_size="5 parsecs")


def test_calls_of_old_flax_are_told_what_to_write(tmp_path):
    model, params = load(GOLDENS / "llama-causal-lm" / "checkpoint")
    folder = tmp_path / "s"
    for save in (
        lambda: model.save_pretrained(folder, params=params),
        lambda: model.save_pretrained(save_directory=folder, params=params),
        lambda: model.save_pretrained(folder),
    ):
        with pytest.raises(TypeError, match=r"write model.save_pretrained\(params, folder, ...\)"):
            save()
    with pytest.raises(TypeError, match=r"write model.push_to_hub\(params, repo_id, ...\)"):
        model.push_to_hub("org/name", params=params)
    copies = jax.tree.map(lambda x: np.stack([x, x]), params)
    for use in (
        lambda: model.save_pretrained(copies, folder),
        lambda: model.apply({"params": copies}, np.ones((1, 2), int)),
    ):
        with pytest.raises(ValueError, match="of 2 sets of params, flax.jax_utils.unrep"):
            use()
    assert os.listdir(tmp_path) == []
    model.save_pretrained(params=params, folder=folder)


def test_P28_1_2_where_and_who(tmp_path):
    model, params = load(GOLDENS / "llama-causal-lm" / "checkpoint")
    model.save_pretrained(params, tmp_path / "a" / "b", is_main_process=False)
    assert not (tmp_path / "a").exists()
    model.save_pretrained(params, tmp_path / "a" / "b")
    mode = (tmp_path / "a" / "b" / "model.safetensors").stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    assert mode == 0o666 & ~umask
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="expected a folder"):
        model.save_pretrained(params, tmp_path / "file")


def test_D30_a_leaf_above_the_limit_stands_alone(tmp_path):
    model, params = load(GOLDENS / "llama-causal-lm" / "checkpoint")
    model.save_pretrained(params, tmp_path / "s", max_shard_size=5000)
    index = json.loads((tmp_path / "s" / "model.safetensors.index.json").read_text())
    held = {}
    for name, file in index["weight_map"].items():
        held.setdefault(file, []).append(name)
    assert index["metadata"]["total_size"] == fp.memory_footprint(params)
    alone = [names for names in held.values() if "lm_head.weight" in names]
    assert alone == [["lm_head.weight"]] and all(held.values())


@in_turn("golden", ["gpt2-lm-head", "llama-tied", "bert-masked-lm"], "scan", [False, True])
def test_orbax_holds_the_tree_as_it_is(golden, scan, tmp_path):
    """Looped or stacked, and loads as either."""
    import orbax.checkpoint as ocp

    model, params = load(GOLDENS / golden / "checkpoint", scan_layers=scan)
    model.save_pretrained(params, tmp_path / "s", format="orbax")
    model.save_pretrained(params, tmp_path / "s", format="orbax", checksums=True)
    assert sorted(
        path.name for path in (tmp_path / "s").iterdir() if "config" not in path.name
    ) == [
        "checksums.json",
        "flax_model.orbax",
    ]
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(tmp_path / "s" / "flax_model.orbax", params)
    assert_equal(found, params)
    for as_scan in (False, True):
        _, expected = load(GOLDENS / golden / "checkpoint", scan_layers=as_scan)
        assert_equal(load(tmp_path / "s", scan_layers=as_scan)[1], expected)
        assert_equal(
            load(tmp_path / "s/flax_model.orbax", scan_layers=as_scan, config=model.config)[1],
            expected,
        )


def llama():
    return load(GOLDENS / "llama-causal-lm" / "checkpoint")


@pytest.mark.parametrize("form", ["boxed", "variables", "boxed variables", "frozen", "numpy"])
def test_D30_params_as_jax_and_flax_hand_them_over(form, tmp_path):
    model, params = llama()
    if "boxed" in form:
        init = functools.partial(model.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
        given = jax.tree.map(lambda x: jax.device_put(uniform("x", x.shape)), jax.eval_shape(init))
        given = given["params"]
        params = nn.meta.unbox(given)
    else:
        given = {
            "variables": params,
            "frozen": flax.core.freeze(params),
            "numpy": jax.tree.map(np.asarray, params),
        }[form]
    model.save_pretrained({"params": given} if "variables" in form else given, tmp_path / "s")
    assert_equal(load(tmp_path / "s")[1], params)


class Lookalike:
    """An array of another library."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array)


@pytest.mark.parametrize("format", ["safetensors", "orbax"])
@pytest.mark.parametrize(
    ("said", "spoil"),
    [
        ("is abstract", lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)),
        ("is a float, expected an array", lambda x: 1.0),
        ("was deleted, or donated", lambda x: x.delete() or x),
        ("is a masked array", lambda x: np.ma.masked_less(np.asarray(x), 0)),
        ("is a Lookalike, expected an array of JAX or NumPy", Lookalike),
        (": .*no load would take dtype int64", lambda x: np.asarray(x).astype(np.int64)),
        (": .*no load would take dtype bool", lambda x: np.asarray(x) > 0),
        (": .*no load would take dtype complex64", lambda x: x.astype(jnp.complex64)),
    ],
)
def test_what_holds_no_numbers_is_refused_by_name(said, spoil, format, tmp_path):
    model, params = llama()
    params = params | {"lm_head": {"kernel": spoil(jnp.copy(params["lm_head"]["kernel"]))}}
    with pytest.raises(fm.CheckpointError, match=f"lm_head/kernel ?{said}.*nothing was written"):
        model.save_pretrained(params, tmp_path / "s", format=format)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", [jax.jit, jax.eval_shape, jax.make_jaxpr, jax.grad])
def test_a_save_of_traced_params_says_so(how, tmp_path):
    model, params = llama()

    def save(tree):
        model.save_pretrained(tree, tmp_path / "s")
        return jnp.zeros(())

    with pytest.raises(fm.CheckpointError, match="lm_head/kernel is traced: inside jit"):
        how(save, params) if how is jax.eval_shape else how(save)(params)
    model.save_pretrained(params, tmp_path / "s")  # these are not, wherever it is called
    jax.jit(lambda x: model.save_pretrained(params, tmp_path / "s") or x)(1.0)


@pytest.mark.parametrize(
    ("folder", "said"),
    [("", "it is empty"), ("/", "the root of"), ("//", "the root of"), ("~/s", "expanduser"),
     ("a\0b", "a NUL"), ("gs://bucket/s", "an address"), ("file:///s", "an address")],
)  # fmt: skip
def test_D38_folders_that_cannot_be_meant(folder, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, params = llama()
    with pytest.raises(ValueError, match=f"cannot save into .*{said}"):
        model.save_pretrained(params, folder)
    for config in (model.config, fm.GenerationConfig()):
        with pytest.raises(ValueError, match=f"cannot save into .*{said}"):
            config.save_pretrained(folder)
    with pytest.raises(TypeError, match="the folder to save into is a dict"):
        model.save_pretrained("s", params)
    assert os.listdir(tmp_path) == []


def test_D38_a_folder_that_no_file_can_be_in(tmp_path, monkeypatch):
    model, params = llama()
    with pytest.raises(ValueError, match="no file can be called so"):
        model.save_pretrained(params, f"{tmp_path}/a\ud800")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ValueError, match="the working directory, which it starts from, is gone"):
        model.save_pretrained(params, "a")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_folder_in_the_place_of_a_file_is_not_removed(name, tmp_path):
    model, params = llama()
    (tmp_path / "s" / name).mkdir(parents=True)
    (tmp_path / "s" / name / "mine").write_text("mine")
    with pytest.raises(fm.CheckpointError, match=f"{name}: not saved: a folder, where a file"):
        model.save_pretrained(params, tmp_path / "s")
    assert os.listdir(tmp_path) == ["s"] and os.listdir(tmp_path / "s") == [name]
    assert (tmp_path / "s" / name / "mine").read_text() == "mine"


def test_a_folder_that_readers_would_take_for_another_formats_file_is_not_removed(tmp_path):
    model, params = llama()
    mine = tmp_path / "model.safetensors" / "mine"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(fm.CheckpointError, match="model.safetensors: not saved: a folder, where a"):
        model.save_pretrained(params, tmp_path, format="msgpack")
    assert os.listdir(tmp_path) == ["model.safetensors"] and mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        *(
            ({name: "no"}, f"{name} is 'no'; expected True or False")
            for name in ("safe_serialization", "checksums", "is_main_process", "save_peft_format")
        ),
        ({"format": ""}, "format is ''; what can be written"),
        ({"format": ["orbax"]}, r"format is \['orbax'\]; what can be written"),
        ({"format": "orbax", "safe_serialization": False}, "leave one of them out"),
        ({"save_function": 3}, "save_function is 3; expected a function of"),
    ],
    ids=str,
)
def test_ways_to_save_that_are_none(how, said, tmp_path):
    model, params = llama()
    with pytest.raises((TypeError, ValueError), match=said):
        model.save_pretrained(params, tmp_path / "s", **how)
    assert os.listdir(tmp_path) == []


@some_of("format", ["safetensors", "msgpack", "orbax"], "safetensors", "orbax")
def test_modes_of_jax_that_look_at_values_do_not_look_at_params(format, tmp_path, monkeypatch):
    """NaNs are saved as any numbers, from wherever they are."""
    monkeypatch.setattr(leaf_pieces, "is_in_host_memory", lambda data: False)
    mesh = fs.make_mesh(fsdp=2, devices=jax.devices()[:2])
    rules = (("vocab", None), *fs.DEFAULT_RULES)
    model, params = load(GOLDENS / "llama-causal-lm" / "checkpoint", mesh=mesh, rules=rules)
    params = jax.tree.map(lambda x: jax.device_put(np.asarray(x) + np.nan, x.sharding), params)
    with jax.debug_nans(True), jax.disable_jit(), jax.transfer_guard("disallow"):
        model.save_pretrained(params, tmp_path / "s", format=format)
    for leaf in jax.tree.leaves(load(tmp_path / "s")[1]):
        assert np.isnan(leaf).all()


@pytest.mark.parametrize("folder", [".", "a/", "a/../b//", "./c/."])
def test_D38_folders_in_other_words(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, params = llama()
    for _ in range(2):
        model.save_pretrained(params, folder)
    assert_equal(load(Path(os.path.realpath(folder)))[1], params)
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("variant", ["a/b", "..", "", "../x", "a b", "\0", "a\nb", "x" * 101, 16])
def test_D38_variants_that_are_no_part_of_a_name(variant, tmp_path):
    model, params = llama()
    with pytest.raises(ValueError, match="variant is .*part of file names"):
        model.save_pretrained(params, tmp_path / "s", variant=variant)
    assert os.listdir(tmp_path) == []


def test_what_would_save_nothing_is_refused(tmp_path):
    model, params = llama()
    with pytest.raises(fm.CheckpointError, match="select selects no leaf"):
        model.save_pretrained(params, tmp_path / "s", select=lambda path, _: path == "misspelt")
    for made, act in (("nothing", lambda path: None), ("a folder", os.mkdir)):
        with pytest.raises(fm.CheckpointError, match=f"safetensors: save_function made {made} th"):
            model.save_pretrained(params, tmp_path / "s", save_function=lambda _, path: act(path))  # noqa: B023
    assert os.listdir(tmp_path) == []
