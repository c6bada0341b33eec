"""Quantised weights in loads and saves (P10, P13.26)."""

import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of
from _turns import in_turn
from safetensors.numpy import load_file, save_file

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.convert import convert
from flaxmodels.params.quantized.make import form_of, quantize
from flaxmodels.params.quantized.qtensor import QTensor

CONFIG = fm.LlamaConfig(
    vocab_size=64,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
)
LOOPED = fm.LlamaForCausalLM(CONFIG)
SCANNED = LOOPED.clone(scan_layers=True)
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
ASKED = {
    "int8": {"load_in_8bit": True},
    "nf4": NF4,
    "double": NF4 | {"bnb_4bit_use_double_quant": True},
    "fp8": {"quant_method": "fp8", "weight_block_size": [32, 32]},
    "tensor": {"quant_method": "fp8", "weight_block_size": None},
    "ours": {
        "quant_method": "flaxmodels",
        "schemes": {"mlp": "int4", "embed_tokens|lm_head": "int8"},
    },
}


@pytest.fixture(scope="module")
def params():
    return fp.to_bf16(params_of(LOOPED))


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("dense")
    LOOPED.save_pretrained(params, path)
    return path


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(*map(bits, (a, b))), one, other)


def bits(array):
    array = np.asarray(array)
    return array.view(f"u{array.itemsize}")


def quantised(params, only=""):
    return {p: x for p, x in fp.flatten(params).items() if isinstance(x, QTensor) and only in p}


@in_turn("asked", [*ASKED], "scan", [False, True])
def test_P10_weights_are_quantised_while_they_are_read(folder, params, asked, scan):
    wanted = SCANNED if scan else LOOPED
    model, made = fm.LlamaForCausalLM.from_pretrained(
        folder, quantization_config=ASKED[asked], scan_layers=scan
    )
    dense = fp.flatten(fp.stack_layers(params, ["layers"]) if scan else params)
    assert fp.flatten(made).keys() == fp.flatten(wanted.abstract_params()).keys()
    assert model.config.quantization_config["quant_method"] == "flaxmodels"
    found = quantised(made)
    if asked == "ours":
        assert {found[p].form.codes for p in found if "mlp" in p} == {"int4"}
        assert {p for p in found if "mlp" not in p} == {
            "model/embed_tokens/embedding",
            "lm_head/kernel",
        }
    else:
        assert found.keys() == {p for p in dense if "layers" in p and p.endswith("kernel")}
    for path, weight in found.items():
        numbers = np.asarray(dense[path])
        numbers = numbers.swapaxes(-1, -2) if weight.form.turned else numbers
        expected = quantize(numbers, dataclasses.replace(weight.form, scale=None))
        np.testing.assert_array_equal(bits(weight.data), bits(expected.data))
        scales = weight.scale
        scales = scales.dense() if isinstance(scales, QTensor) else scales
        np.testing.assert_allclose(scales, expected.scale, rtol=0.1 if weight.form.scale else 0)
    others = fp.flatten(made).keys() - found.keys()
    assert_same({p: fp.flatten(made)[p] for p in others}, {p: dense[p] for p in others})


KINDS = [("nf4", False), ("float8_block", True), ("nf4", True), ("float8_block", False)]


@pytest.fixture(scope="module")
def packed(params):
    """Trees with weights of each scheme, looped and scanned."""
    mask = lambda path, leaf: path.endswith("kernel") and "layers" in path  # noqa: E731
    params = jax.device_get(params)  # NumPy compiles nothing
    looped = {name: fp.quantize(params, name, mask) for name in ("nf4", "float8_block")}
    return {
        (name, scan): fp.stack_layers(tree, ["layers"]) if scan else tree
        for name, tree in looped.items()
        for scan in (False, True)
    }


@in_turn("format", ["safetensors", "msgpack", "orbax"], "kind", KINDS)
def test_P10_ours_is_read_as_it_was_saved(packed, tmp_path, format, kind):
    scheme, scan = kind
    tree, model = packed[kind], SCANNED if scan else LOOPED
    model.save_pretrained(tree, tmp_path, format=format)
    said = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert said["quant_method"] == "flaxmodels" and said["form"]["block"] == [
        *form_of(scheme).block
    ]
    loaded, read = fm.AutoModelForCausalLM.from_pretrained(tmp_path, scan_layers=scan)
    assert_same(read, tree)
    assert loaded.config.quantization_config["quant_method"] == "flaxmodels"
    same, dense = loaded.dequantize(read, "float32")
    assert "quantization_config" not in same.config.to_dict()
    model, arrays = fm.LlamaForCausalLM.from_pretrained(
        tmp_path, dequantize=True, param_dtype="float32", scan_layers=scan
    )
    assert_same(arrays, fp.to_fp32(dense))
    assert "quantization_config" not in model.config.to_dict()


def test_P10_ours_on_a_mesh_stacked_or_not(packed, tmp_path):
    LOOPED.save_pretrained(packed["nf4", False], tmp_path)
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"))
    plan = fm.load_plan(tmp_path, mesh=mesh)
    assert any(
        "o_proj/kernel/scale is whole on each device: 64 numbers" in x for x in plan.replicated
    )
    assert "nf4, packed" in repr(plan)
    for scan in (False, True):
        model, tree = fm.LlamaForCausalLM.from_pretrained(tmp_path, mesh=mesh, scan_layers=scan)
        assert_same(tree, packed["nf4", scan])
        held = fp.memory_footprint(tree, per_device=True)
        plan = fm.load_plan(tmp_path, mesh=mesh, scan_layers=scan)
        assert held == plan.bytes_per_device
        weight: Any = next(iter(quantised(tree, "q_proj").values()))
        assert weight.data.sharding.spec[-2:] == ("tensor", "fsdp")


def test_P10_what_is_packed_is_not_padded(folder, tmp_path):
    """Three devices divide no dimension: what is packed is whole on each of them, arrays are as
    `uneven` says."""
    mlp = {"scheme": "nf4", "patterns": "mlp"}
    mesh = fs.make_mesh(devices=jax.devices()[:3], tensor=3)
    uneven = {axis: "replicate" for axis in ("heads", "kv_heads")} | {"vocab": "pad", "mlp": "pad"}
    load = functools.partial(fm.LlamaForCausalLM.from_pretrained, folder, quantization_config=mlp)
    with pytest.warns(UserWarning, match="whole on each device"):
        model, params = load(mesh=mesh, rules="tensor", uneven=uneven)
    _, expected = load()
    assert params["model"]["embed_tokens"]["embedding"].shape == (66, 64)
    assert_same(quantised(params), quantised(expected))
    model.save_pretrained(params, tmp_path)
    assert_same(fm.LlamaForCausalLM.from_pretrained(tmp_path)[1], expected)


def test_P10_param_dtype_is_the_logical_one(packed, tmp_path):
    LOOPED.save_pretrained(packed["nf4", False], tmp_path)
    _, tree = fm.LlamaForCausalLM.from_pretrained(tmp_path, param_dtype="float16")
    assert {x.dtype for x in fp.flatten(tree).values()} == {jnp.dtype("float16")}
    assert_same(
        [x.data for x in quantised(tree).values()],
        [x.data for x in quantised(packed["nf4", False]).values()],
    )


def test_P10_a_file_that_says_no_format_is_read_by_its_names(packed, tmp_path):
    LOOPED.save_pretrained(packed["nf4", False], tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path), path)  # whose metadata are gone
    assert_same(fm.AutoModelForCausalLM.from_pretrained(tmp_path)[1], packed["nf4", False])


def test_P10_arrays_that_do_not_fit_each_other_are_used_and_saved_by_nobody(packed, tmp_path):
    tree = dict(fp.flatten(packed["nf4", False]))
    path = "model/layers/1/mlp/up_proj/kernel"
    for scale, message in (
        (tree[path].scale[:3], r"scale has shape \(3, 1\)"),
        (None, "without a"),
    ):
        odd = fp.unflatten(tree | {path: dataclasses.replace(tree[path], scale=scale)})
        with pytest.raises(ValueError, match=f"{path}.*{message}"):
            jax.eval_shape(LOOPED.apply, {"params": odd}, np.arange(8)[None])
        with pytest.raises(ValueError, match=f"{path}.*{message}"):
            LOOPED.save_pretrained(odd, tmp_path / "odd")
    assert not (tmp_path / "odd").exists()


def test_P10_layers_of_one_leaf_are_quantised_alike(packed, params, tmp_path):
    tree = dict(fp.flatten(packed["nf4", False]))
    path = "model/layers/1/mlp/up_proj/kernel"
    tree[path] = quantised(packed["float8_block", False])[path]
    LOOPED.save_pretrained(fp.unflatten(tree), tmp_path)
    model, read = fm.LlamaForCausalLM.from_pretrained(tmp_path)
    assert_same(read, fp.unflatten(tree))
    with pytest.raises(fp.CheckpointError, match=r"up_proj/kernel are quantised differently: 'mod"):
        fm.LlamaForCausalLM.from_pretrained(tmp_path, scan_layers=True)
    tree[path] = fp.flatten(params)[path]
    LOOPED.save_pretrained(fp.unflatten(tree), tmp_path)
    with pytest.raises(fp.CheckpointError, match=r"1.mlp.up_proj.weight' is not quantised \(bf"):
        fm.LlamaForCausalLM.from_pretrained(tmp_path, scan_layers=True)
    fm.load_plan(tmp_path, scan_layers=True, dequantize=True)


def test_P13_26_what_is_read_is_what_the_config_says(folder, packed, tmp_path):
    LOOPED.save_pretrained(packed["nf4", False], tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())

    def loading(change):
        path.write_text(json.dumps(values | {"quantization_config": change}))
        return fm.load_plan(tmp_path)

    ours = values["quantization_config"]
    form = ours["form"]
    with pytest.raises(fp.CheckpointError, match=r"has shape .* as scale of 'model.layers"):
        loading(ours | {"form": form | {"block": [1, 32]}})
    with pytest.raises(fp.CheckpointError, match="block is .0, 32.; expected two numbers"):
        loading(ours | {"form": form | {"block": [0, 32]}})
    with pytest.raises(fp.CheckpointError, match="unknown codes 'nf5'"):
        loading(ours | {"form": form | {"codes": "nf5"}})
    with pytest.raises(fp.CheckpointError, match="activations is 'int8' of nf4"):
        loading(ours | {"form": form | {"activations": "int8"}})
    with pytest.raises(fp.CheckpointError, match="of version '2'"):
        loading(ours | {"version": 2})
    with pytest.raises(fp.CheckpointError, match="quantised by 'hqq' are not read"):
        loading({"quant_method": "hqq"})
    config = LOOPED.config.replace(extra={"quantization_config": ours})
    with pytest.raises(fp.CheckpointError, match="'flaxmodels', and no tensor is stored so"):
        fm.load_plan(folder, config=config)
    with pytest.raises(TypeError, match="is quantised already"):
        path.write_text(json.dumps(values))
        fm.load_plan(tmp_path, quantization_config=NF4)
    plan = fm.load_plan(tmp_path, quantization_config=ASKED["int8"], dequantize=True)
    assert {form.codes for form in plan.packed.values()} == {"int8"}


BAD = {
    "no dict": (3, TypeError, "quantization_config is a int; give a dict"),
    "method": ({"quant_method": "gptq"}, ValueError, "'gptq' is not made here"),
    "both": ({"load_in_4bit": True, "load_in_8bit": True}, ValueError, "give one of load_in_8bit"),
    "text": (NF4 | {"llm_int8_skip_modules": "lm_head"}, TypeError, r"such as \['lm_head'\]"),
    "key": (NF4 | {"zip": 1}, TypeError, "zip would have no effect on bitsandbytes"),
    "type": ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf5"}, ValueError, "is 'nf5'"),
    "scheme": ({"scheme": "int9"}, ValueError, "unknown scheme 'int9'; known: int8"),
    "block": ({"scheme": "nf4", "block": "all"}, ValueError, "block is 'all'; expected a number"),
    "pattern": ({"schemes": {"nlp": "nf4"}}, ValueError, "'nlp' matches no path"),
    "nothing": ({"scheme": "nf4", "mask": False}, ValueError, "chooses no leaf"),
    "schemes": ({"schemes": 3}, TypeError, "schemes is 3; expected a dict"),
    "flag": ({"load_in_8bit": "no"}, TypeError, "load_in_8bit is 'no'; expected True or False"),
    "double": ({"scheme": "nf4", "double_quant": 1}, TypeError, "double_quant is 1; expected True"),
    "two": ({"scheme": "nf4", "schemes": {}}, TypeError, "give scheme, or schemes"),
    "misspelt": ({"load_in_8bits": True}, ValueError, "has load_in_8bits; give one of"),
    "methods": ({"quant_method": ["fp8"]}, ValueError, ".'fp8'.* is not made here"),
    "names": ({"scheme": "nf4", "modules_to_not_convert": [3]}, TypeError, "is .3.; give a list"),
    "module": (
        NF4 | {"llm_int8_skip_modules": ["lm_head", "down_prj"]},
        ValueError,
        "no module is 'down_prj', to be left out",
    ),
    "modules": (
        ASKED["fp8"] | {"modules_to_not_convert": ["model.layers.9"]},
        ValueError,
        "nearest",
    ),
    "patterns": ({"scheme": "nf4", "patterns": 3}, TypeError, "patterns is 3; give a list"),
    "keys": (NF4 | {3: 4, "zip": 1}, TypeError, "3, zip would have no effect"),
    "block 0": ({"quant_method": "fp8", "weight_block_size": 0}, ValueError, "block is 0; expec"),
    "block true": ({"scheme": "nf4", "block": True}, ValueError, "block is True; expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_P13_26_what_cannot_be_made_is_refused(folder, case):
    given, error, said = BAD[case]
    with pytest.raises(error, match=said):
        fm.load_plan(folder, quantization_config=given)


def test_P13_26_old_keywords_act_with_a_warning(folder):
    for name, codes in (("load_in_8bit", "int8"), ("load_in_4bit", "fp4")):
        with pytest.warns(FutureWarning, match=f"{name} is now quantization_config"):
            plan = fm.load_plan(folder, **{name: True})
        assert {form.codes for form in plan.packed.values()} == {codes}
        assert not fm.load_plan(folder, **{name: False}).packed


def test_P13_26_modules_are_left_out_by_the_rule_of_transformers(folder):
    skipped = ["model.layers.1", "down_proj", "score"]
    asked = {"load_in_8bit": True, "llm_int8_skip_modules": skipped}
    plan = fm.load_plan(folder, quantization_config=asked)
    left = {path.split("/")[-2] for path in plan.packed} - {"lm_head"}
    assert left == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"}
    in_layers = plan.packed.keys() - {"lm_head/kernel"}
    assert all("layers/0/" in path for path in in_layers) and in_layers != plan.packed.keys()


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        ("llm_int8_skip_modules", NF4),
        ("modules_to_not_convert", ASKED["fp8"]),
        ("modules_to_not_convert", {"scheme": "int8"}),
    ],
)
def test_P13_26_a_list_of_modules_stands_for_heads(folder, key, asked):
    def is_quantised(skipped):
        plan = fm.load_plan(folder, quantization_config=asked | {key: skipped})
        return "lm_head/kernel" in plan.packed

    assert [*map(is_quantised, (None, [], ["q_proj"], ["lm_head"]))] == [False, True, True, False]


def test_P10_NaN_is_not_quantised(params, tmp_path):
    tree = dict(fp.flatten(params))
    path = "model/layers/1/mlp/up_proj/kernel"
    tree[path] = tree[path].at[3, 3].set(jnp.nan)
    LOOPED.save_pretrained(fp.unflatten(tree), tmp_path)
    with pytest.raises(fp.CheckpointError, match="1.mlp.up_proj.weight' holds NaN or infinity"):
        fm.LlamaForCausalLM.from_pretrained(tmp_path, quantization_config=NF4)


def test_P10_joined_tensors_are_split_and_joined_packed(tmp_path):
    config = fm.Phi3Config(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=0,
    )
    model = fm.Phi3ForCausalLM(config)
    dense = jax.device_get(params_of(model))
    tree = fp.quantize(dense, "nf4", lambda path, leaf: "layers" in path and "kernel" in path)
    model.save_pretrained(tree, tmp_path)
    source = fp.open_checkpoint(tmp_path)
    assert source["model.layers.0.self_attn.qkv_proj.weight.data"].shape == (192, 32)
    assert_same(fm.Phi3ForCausalLM.from_pretrained(tmp_path)[1], tree)
    whole = fp.quantize(
        dense,
        "float8_tensor",
        lambda path, leaf: (
            "qkv" in path or "q_proj" in path or "k_proj" in path or "v_proj" in path
        ),
    )
    with pytest.raises(fp.CheckpointError, match="joined of several leaves, and their scale"):
        model.save_pretrained(whole, tmp_path)


def test_P10_a_template_of_70B_on_8_devices_says_its_bytes():
    config = fm.LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    template = fm.LlamaForCausalLM(config).abstract_params("bfloat16")
    asked = {
        "config": config,
        "state_dict": template,
        "model_class": fm.LlamaForCausalLM,
        "mesh": jax.make_mesh((8,), ("tensor",)),
        "quantization_config": NF4,
    }
    plan = fm.load_plan(None, **asked)
    held = fp.memory_footprint(plan.abstract_params, per_device=True)
    assert held == plan.bytes_per_device and {*held.values()} == {5_340_938_240}
    assert fp.num_parameters(plan.abstract_params) == 70_553_706_496
    with pytest.raises(fp.CheckpointError, match="is abstract: it can be planned with"):
        small = LOOPED.abstract_params()
        fm.LlamaForCausalLM.from_pretrained(None, config=CONFIG, state_dict=small)


def test_P10_a_device_map_keeps_quantised_weights_in_memory(packed, tmp_path):
    LOOPED.save_pretrained(packed["nf4", False], tmp_path)
    first, second = jax.devices()[:2]
    places = {"": first, "model/layers/1": second}
    _, tree = fm.LlamaForCausalLM.from_pretrained(tmp_path, device_map=places)
    assert_same(tree, packed["nf4", False])
    for path, weight in quantised(tree).items():
        (scale,) = jax.tree.leaves(weight.scale)[:1]
        assert scale.devices() == {second if "layers/1/" in path else first}
    with pytest.raises(ValueError, match="layers/1/.* on the disk, and it is quantised, which"):
        fm.load_plan(tmp_path, device_map={"": first, "model/layers/1": "disk"})


def test_P13_26_a_conversion_of_quantised_weights_says_what_to_write(packed, tmp_path):
    LOOPED.save_pretrained(packed["nf4", False], tmp_path / "a")
    with pytest.raises(fp.CheckpointError, match="load them and save them: model, params = "):
        convert(tmp_path / "a", tmp_path / "b", format="msgpack")
    assert not (tmp_path / "b").exists()
