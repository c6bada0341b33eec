"""Adapters that PEFT wrote, on the bases of the families: logits; and written again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import reference
from _drawn import params_of
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.adapters.folders import open_adapter, write_adapters
from flaxmodels.hub import Location
from flaxmodels.params import CheckpointError
from flaxmodels.params.adapters.attach import attach
from flaxmodels.params.adapters.peft.config import read_config
from flaxmodels.params.adapters.peft.tensors import PREFIX

GOLDENS = Path(__file__).parents[1] / "goldens" / "peft"
FOLDERS = sorted(path.name for path in GOLDENS.iterdir())
EACH = 4  # of `scripts/goldens/models/make_peft_goldens.py`


def family_of(folder):
    return folder.partition("_")[2]


def base(folder, **options):
    """Returns (the family's golden, the class, the model, its params) that a folder is for."""
    it = reference.load(family_of(folder))
    with safe_open(GOLDENS / folder / "expected.safetensors", "np") as file:
        name = file.metadata()["class"]
    return it, name, *it.load(name, **options)


def adapted(folder, **options):
    it, name, model, params = base(folder, **options)
    return it, name, model, open_adapter(Location(str(GOLDENS / folder))).onto(model, params, "x")


def logits(model, params, inputs):
    def forward(params, inputs):
        return model.apply({"params": params}, **inputs).logits

    out = np.asarray(jax.jit(forward)(params, inputs))
    return out[:, ::EACH] if out.ndim == 3 else out


BY_DEFAULT = {f"{method}_llama" for method in ("dora", "table", "loha", "lokr")}
BY_DEFAULT |= {
    "dora_deberta-v2",
    "rslora_bert",
    "bias_gpt2",
    "tokens_t5",
    "lora_phi3",
    "ia3_gpt2",
}


@pytest.mark.parametrize(
    "folder", [f if f in BY_DEFAULT else pytest.param(f, marks=pytest.mark.soak) for f in FOLDERS]
)
def test_logits_are_those_of_peft(folder):
    expected = load_file(GOLDENS / folder / "expected.safetensors")["logits"]
    scan = len(folder) % 2 == 1
    it, name, model, params = adapted(folder, scan_layers=scan)
    got = logits(model, params, it.inputs(name))
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_peft_wrote_is_written_again(folder, tmp_path):
    """Names, shapes and numbers; compiles nothing."""
    _, _, model, params = adapted(folder, scan_layers=len(folder) % 2 == 0)
    write_adapters(model, params, tmp_path)
    ours = load_file(tmp_path / "adapter_model.safetensors")
    theirs = load_file(GOLDENS / folder / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, name)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert written == json.loads((GOLDENS / folder / "adapter_config.json").read_text())


def test_an_adapter_on_a_quantised_base():
    """QLoRA: what the adapter adds is the same; DoRA's lengths are those of the quantised base."""
    it, name, model, params = base("dora_llama", scan_layers=True)
    small = fp.quantize(jax.device_get(params), "int8")  # NumPy compiles nothing
    on_both = [model.load_adapter(x, GOLDENS / "dora_llama") for x in (small, fp.dequantize(small))]
    got, expected = (logits(model, x, it.inputs(name)) for x in on_both)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    state = model.get_adapter_state_dict(on_both[0])
    theirs = load_file(GOLDENS / "dora_llama" / "adapter_model.safetensors")
    assert all(np.array_equal(state[n.removeprefix(PREFIX)], x) for n, x in theirs.items())


@pytest.mark.parametrize("scan", [False, True], ids=["loop", "scan"])
def test_adapters_lie_on_a_mesh_as_their_weights_do(scan):
    it, name, model, plain = base("lora_llama", scan_layers=scan)
    mesh = fs.make_mesh(fsdp=4, tensor=2)
    rules = (("vocab", None), *fs.DEFAULT_RULES)
    params = jax.device_put(plain, model.place(model.abstract_params(), mesh, rules).shardings)
    on_mesh, alone = (model.load_adapter(x, GOLDENS / "lora_llama") for x in (params, plain))
    found: dict[str, Any] = {**fp.get_adapters(on_mesh, "default")}
    for path, adapter in found.items():
        spec = [*fp.flatten(params)[path].sharding.spec, None, None][: len(adapter.a.shape)]
        a, b = (list(x.sharding.spec) + [None] * 3 for x in (adapter.a, adapter.b))
        lead = spec[:-2]
        assert a[: len(spec)] == [*lead, spec[-2], None] and b[: len(spec)] == [
            *lead,
            None,
            spec[-1],
        ]
    assert equal(on_mesh, alone)


# --- from_pretrained, load_adapter and save_pretrained ---

SIZES = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
}
IDS = np.array([[5, 7, 11, 3]])
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}


def tensors(seed=0, names=("q_proj",), rank=2, width=8):
    rng = np.random.default_rng(seed)
    found = {}
    for layer in range(2):
        for name in names:
            start = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            found[f"{start}.lora_A.weight"] = rng.normal(size=(rank, width)).astype(np.float32)
            found[f"{start}.lora_B.weight"] = rng.normal(size=(8, rank)).astype(np.float32)
    return found


def put(folder, state=None, **config):
    """Writes an adapter into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors() if state is None else state, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    return folder


@pytest.fixture(scope="module")
def llama():
    model = fm.LlamaForCausalLM(fm.LlamaConfig(**SIZES))
    return model, params_of(model)


@pytest.fixture
def folder(llama, tmp_path):
    """A base on the disk."""
    model, params = llama
    model.save_pretrained(params, tmp_path / "base", progress=False)
    return tmp_path / "base"


def values(params):
    return {p: np.asarray(x) for p, x in _plain(params).items()}


def _plain(params):
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(params)}


def equal(a, b):
    a, b = values(a), values(b)
    return a.keys() == b.keys() and all(np.array_equal(a[p], b[p]) for p in a)


def load(*args, **given):
    return fm.AutoModelForCausalLM.from_pretrained(*args, progress=False, **given)


def test_P12_an_adapter_is_found_beside_its_base_and_in_the_place_of_it(folder, llama, tmp_path):
    model, plain = llama
    alone = put(tmp_path / "alone", base_model_name_or_path=str(folder))
    expected = model.load_adapter(plain, alone)
    assert not equal(expected, plain) and fp.get_adapters(expected, "default")
    _, found = load(alone)
    assert equal(found, expected)
    assert equal(load(alone, config=model.config)[1], expected)
    put(folder)
    _, beside = load(folder, adapter_name="mine")
    assert fp.active_adapters(beside) == ("mine",)
    assert equal(beside, model.load_adapter(plain, alone, "mine"))
    stacked = fm.LlamaForCausalLM.from_pretrained(alone, scan_layers=True, progress=False)[1]
    delta = fp.flatten(stacked)["model/layers/self_attn/q_proj/kernel"].dense()
    one = fp.flatten(expected)["model/layers/1/self_attn/q_proj/kernel"].dense()
    np.testing.assert_allclose(delta[1], one, rtol=1e-6)
    assert fm.load_plan(alone).leaves  # of the base


def test_P12_adapter_kwargs_say_where_it_is(folder, llama):
    put(folder / "deep" / "er")
    model, params = load(folder, adapter_kwargs={"subfolder": "deep/er"})
    assert fp.active_adapters(params) == ("default",)
    assert equal(params, model.load_adapter(llama[1], folder, subfolder="deep/er"))
    with pytest.raises(TypeError, match="adapter_kwargs has folder; there are subfolder"):
        load(folder, adapter_kwargs={"folder": "deep"})
    for given in ({"adapter_name": "x"}, {"adapter_kwargs": {"subfolder": "deep"}}):
        with pytest.raises(TypeError, match="has no adapter_config.json; .*load_adapter"):
            load(folder, **given)


def test_P28_10_what_is_saved_is_loaded_again(folder, llama, tmp_path):
    model, params = llama
    a = put(tmp_path / "a", task_type="CAUSAL_LM", revision="v2", base_model_name_or_path="org/x")
    b = put(tmp_path / "b", tensors(1), base_model_name_or_path=str(folder))
    params = model.load_adapter(model.load_adapter(params, a, "one"), b, "two")
    model.save_pretrained(params, tmp_path / "out", save_peft_format=True)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "one",
    }
    for name, place in (("two", "out"), ("one", "out/one")):
        again = model.load_adapter(llama[1], tmp_path / place, name)
        assert equal(
            again,
            fp.set_adapters(fp.delete_adapters(params, {"one": "two", "two": "one"}[name]), name),
        )
    written = json.loads((tmp_path / "out" / "one" / "adapter_config.json").read_text())
    assert written["revision"] == "v2" and written["base_model_name_or_path"] == "org/x"
    model.save_pretrained(params, tmp_path / "bare", save_peft_format=False)
    names = load_file(tmp_path / "bare" / "adapter_model.safetensors")
    assert "model.layers.0.self_attn.q_proj.lora_A.weight" in names
    assert equal(
        model.load_adapter(llama[1], tmp_path / "bare", "two"),
        model.load_adapter(llama[1], tmp_path / "out", "two"),
    )
    state = model.get_adapter_state_dict(params, "one")
    assert equal(
        model.load_adapter(
            llama[1], adapter_name="two", peft_config=CONFIG, adapter_state_dict=state
        ),
        model.load_adapter(llama[1], tmp_path / "a", "two"),
    )
    assert load(tmp_path / "out")[1].keys() == llama[1].keys()
    for odd, message in (
        (fp.stack_adapters(params), "put adapters side by side, and PEFT has no form"),
        (fp.split_adapters(params)[1], "the adapter '.*' has no a; fp.join_adapters"),
    ):
        with pytest.raises(CheckpointError, match=message):
            model.save_pretrained(odd, tmp_path / "odd")
    assert not (tmp_path / "odd").exists()
    with pytest.raises(TypeError, match="checksums is for the weights of a base"):
        model.save_pretrained(params, tmp_path / "out", checksums=True)
    with pytest.raises(TypeError, match="quant_method is for the weights of a base"):
        model.save_pretrained(params, tmp_path / "out", quant_method="fp8")
    with pytest.raises(TypeError, match="msgpack holds no adapters"):
        model.save_pretrained(params, tmp_path / "out", safe_serialization=False)


def test_P28_10_a_save_beside_a_base_leaves_the_base(folder, llama, tmp_path):
    put(folder)
    (folder / "adapter_model.bin").write_bytes(b"old")
    model, params = load(folder)
    params = model.load_adapter(params, put(tmp_path / "b", tensors(1)), "more")
    model.save_pretrained(params, folder)
    assert (folder / "config.json").exists() and not (folder / "adapter_model.bin").exists()
    assert equal(
        load(folder, adapter_name="more")[1], model.load_adapter(llama[1], tmp_path / "b", "more")
    )


def test_weights_saved_beside_an_adapter_are_said_to_get_it(folder, llama):
    put(folder)
    model, params = load(folder)
    with pytest.warns(UserWarning, match="adapter_config.json stays beside the weights"):
        model.save_pretrained(fp.merge_adapters(params), folder)


def test_a_whole_tree_with_adapters_is_not_loaded(folder, llama, tmp_path):
    model, params = load(put(folder))
    model.save_pretrained(params, tmp_path / "out", format="orbax")
    with pytest.raises(fm.CheckpointError, match="there with adapters: restore the tree with orb"):
        load(tmp_path / "out")


def test_P28_10_an_adapter_that_no_file_was_of_gets_a_configuration(llama, tmp_path):
    model, plain = llama
    params = model.load_adapter(plain, put(tmp_path / "a"))
    bare = {
        p: dataclasses.replace(x, config=None)
        for p, x in fp.get_adapters(params, "default").items()
    }
    params = fp.set_adapters(attach(plain, "default", bare), "default")
    with pytest.warns(UserWarning, match="without the name of its base"):
        model.save_pretrained(params, tmp_path / "out")
    config = read_config(tmp_path / "out")
    assert (config.r, config.alpha) == (2, 4) and len(config.target_modules) == 2
    ours, theirs = (load_file(tmp_path / x / "adapter_model.safetensors") for x in ("out", "a"))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_joined_projection_whose_parts_were_trained_apart(tmp_path):
    """Blocks of ranks hold what no one A could."""
    it, name, model, params = adapted("lora_phi3")
    rng = np.random.default_rng(0)
    changed = {}
    for path, x in fp.get_adapters(params, "x").items():
        a = x.__dict__["a"] + rng.normal(0, 0.1, x.__dict__["a"].shape).astype(np.float32)
        changed[path] = dataclasses.replace(x, **{"a": a})
    params = fp.set_adapters(attach(fp.without_adapters(params), "x", changed), "x")
    write_adapters(model, params, tmp_path)
    again = open_adapter(Location(str(tmp_path))).onto(model, fp.without_adapters(params), "x")
    for path, leaf in fp.flatten(params).items():
        other = fp.flatten(again)[path]
        if path in changed:
            np.testing.assert_allclose(other.dense(), leaf.dense(), atol=1e-6)
    assert read_config(tmp_path).rank_pattern


@pytest.mark.filterwarnings("ignore:.*not used in LlamaForSequenceClassification. lm_head")
def test_a_head_that_an_adapter_brings_is_not_called_new(folder, tmp_path):
    state = tensors() | {"base_model.model.score.weight": np.ones((2, 8), np.float32)}
    alone = put(
        tmp_path / "a", state, modules_to_save=["score"], base_model_name_or_path=str(folder)
    )
    _, params = fm.LlamaForSequenceClassification.from_pretrained(alone, progress=False)
    assert np.asarray(fp.flatten(params)["score/kernel"].dense()).min() == 1
    with pytest.warns(UserWarning, match="not initialized from pretrained model .*score"):
        fm.LlamaForSequenceClassification.from_pretrained(folder, progress=False)


# --- bad input: the base is untouched, and the file, the tensor and the way out are named ---


def _without(name):
    return {key: x for key, x in tensors().items() if name not in key}


BAD = {
    r"'base_model.*q_proj.lora_A.weight' has shape \(2, 6\); beside a weight \(8, 8\) of the base, "
    r"at rank 2 .* it is \(2, 8\). It is an adapter of another base": (tensors(width=6), {}),
    r"has shape \(2, 8\); .* at rank 4 as the configuration says, it is \(4, 8\)": (None, {"r": 4}),
    "have no tensors: model.layers.0.self_attn.v_proj": (
        None,
        {"target_modules": ["q_proj", "v_proj"]},
    ),
    r"model.layers.0.self_attn.k_proj, .* \(2\) are left over": (
        tensors(names=("q_proj", "k_proj")),
        {},
    ),
    "have no tensors: model.layers.1": (_without("layers.1"), {}),
    r"lora_A.weight and no lora_B.weight": (_without("layers.1.self_attn.q_proj.lora_B"), {}),
    "modules are none of LlamaForCausalLM: 'model.layers.0.self_attn.qq'": (
        {k.replace("q_proj", "qq"): x for k, x in tensors().items()},
        {"target_modules": ["qq"]},
    ),
    "target_modules .* are left over|left over: target_modules": (None, {"target_modules": ["up"]}),
    "is of LORA, and adapter_config.json says IA3": (
        None,
        {"peft_type": "IA3", "r": None, "lora_alpha": None},
    ),
    "'model.norm.weight' .* neither modules_to_save nor bias": (
        tensors() | {"base_model.model.model.norm.weight": np.ones(8, np.float32)},
        {},
    ),
    r"modules_to_save are lm_head, and lm_head.weight": (None, {"modules_to_save": ["lm_head"]}),
    r"token 16 is trained, and the base's model.embed_tokens has 16 rows; .*resize": (
        tensors()
        | {
            "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": np.ones(
                (1, 8), np.float32
            )
        },
        {"trainable_token_indices": {"embed_tokens": [16]}},
    ),
    r"embed_tokens.weight' .* has shape \(20, 8\), and that \(16, 8\): .*resize_token_embeddings": (
        tensors() | {"base_model.model.model.embed_tokens.weight": np.ones((20, 8), np.float32)},
        {},
    ),
    r"lm_head.weight' .* has shape \(20, 8\), and that \(16, 8\): .*resize.* with num_labels=20": (
        tensors() | {"base_model.model.lm_head.weight": np.ones((20, 8), np.float32)},
        {"modules_to_save": ["lm_head"]},
    ),
    "no tensors in it": ({}, {}),
    "does not begin with 'base_model.model.'": (tensors() | {"lone": np.ones(2, np.float32)}, {}),
    "is no regular expression": (None, {"target_modules": "(", "layers_pattern": None}),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_adapters_are_refused_and_the_base_is_untouched(message, folder, llama):
    state, config = BAD[message]
    put(folder, state, **config)
    model, plain = llama
    before = values(plain)
    with pytest.raises(CheckpointError, match=message) as error:
        model.load_adapter(plain, folder)
    assert str(folder) in str(error.value) or "regular expression" in message
    assert equal(plain, plain) and all(
        np.array_equal(before[p], x) for p, x in values(plain).items()
    )
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_weights_off_the_devices_have_no_adapters(folder):
    put(folder)
    for place in ("cpu", "disk"):
        where = {"model/layers/0": place, "": 0}
        with pytest.raises(CheckpointError, match=r"layers/0/self_attn/q_proj/kernel \(1 such\)"):
            load(folder, device_map=where, offload_folder=folder / "off")
    _, params = load(folder, device_map={"model/layers/1/mlp": "cpu", "": 0})
    assert fp.active_adapters(params) == ("default",)


def test_a_name_twice_and_names_that_there_are_not(llama, tmp_path):
    model, plain = llama
    params = model.load_adapter(plain, put(tmp_path / "a"))
    with pytest.raises(ValueError, match="have an adapter 'default' already; .*adapter_name"):
        model.load_adapter(params, tmp_path / "a")
    with pytest.raises(ValueError, match="'a.b'"):
        model.load_adapter(plain, tmp_path / "a", "a.b")
    with pytest.raises(ValueError, match="cannot have the name 'a.b'"):
        model.load_adapter(plain, tmp_path / "a", "a.b")
    with pytest.raises(TypeError, match="load_adapter does not know 'subfolde'"):
        model.load_adapter(plain, tmp_path / "a", subfolde="x")
    with pytest.raises(
        ValueError, match="layers/0/.*, which the params do not have.*those of this"
    ):
        model.load_adapter({"lm_head": plain["lm_head"]}, tmp_path / "a")
    with pytest.raises(ValueError, match="no adapter 'b'"):
        model.get_adapter_state_dict(params, "b")
    state, config = model.get_adapter_state_dict(params), fp.get_adapters(params, "default")
    config = next(iter(config.values())).config
    name = min(state)
    with pytest.raises(CheckpointError, match=f"'{name}' is int32; expected floating-point"):
        given = state | {name: state[name].astype(np.int32)}
        model.load_adapter(plain, adapter_state_dict=given, peft_config=config)
    with pytest.raises(TypeError, match="adapter_state_dict goes with peft_config"):
        model.load_adapter(plain, tmp_path / "a", adapter_state_dict={})


def test_a_base_is_not_opened_where_a_file_says_an_address(tmp_path):
    for name, message in (
        ("https://evil.example/x", "is the address 'https://evil.example/x', which is not opened"),
        ("file:///etc", "is the address"),
        (None, "and there are no weights of a base beside the adapter; load the base, and then"),
        (str(tmp_path / "a"), "which is an adapter itself"),
    ):
        put(tmp_path / "a", base_model_name_or_path=name)
        with pytest.raises(CheckpointError, match=message):
            load(tmp_path / "a")


def test_adapters_of_the_backbone_and_of_old_files(llama, tmp_path):
    model, plain = llama
    expected = model.load_adapter(plain, put(tmp_path / "a"))
    cut = {k.replace("model.model.model.", "model.model."): x for k, x in tensors().items()}
    with pytest.warns(UserWarning, match="of the backbone alone"):
        assert equal(model.load_adapter(plain, put(tmp_path / "b", cut)), expected)
    named = {k.replace(".weight", ".default.weight"): x for k, x in tensors().items()}
    assert equal(model.load_adapter(plain, put(tmp_path / "c", named)), expected)
    for i, wrapped in enumerate(  # by torch.compile before and after PEFT, FSDP, and in parallel
        (
            lambda k: f"_orig_mod.{k}",
            lambda k: k.replace("model.model.model.", "model.model._orig_mod.model.", 1),
            lambda k: k.replace(".self_attn.", "._fsdp_wrapped_module.self_attn."),
            lambda k: f"module._orig_mod.{k}",
        )
    ):
        state = {wrapped(k): x for k, x in tensors().items()}
        assert equal(model.load_adapter(plain, put(tmp_path / f"w{i}", state)), expected)
    both = tensors() | {f"_orig_mod.{k}": x for k, x in tensors().items()}
    with pytest.raises(CheckpointError, match="'_orig_mod.base.* both stand for"):
        model.load_adapter(plain, put(tmp_path / "d", both))


def test_a_saved_table_takes_the_place_of_the_base(tmp_path):
    """PEFT saves a table along with its adapter, in case that it was resized or trained."""
    it, name, model, plain = base("table_llama")
    state = load_file(GOLDENS / "table_llama" / "adapter_model.safetensors")
    table = "base_model.model.model.embed_tokens.base_layer.weight"
    state[table] = state[table] + 1
    config = json.loads((GOLDENS / "table_llama" / "adapter_config.json").read_text())
    params = model.load_adapter(plain, put(tmp_path / "a", state, **config))
    leaf = fp.flatten(params)["model/embed_tokens/embedding"]
    np.testing.assert_array_equal(leaf.base, state[table])
