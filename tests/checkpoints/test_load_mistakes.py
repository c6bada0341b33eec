"""What callers get wrong in the arguments of a load: said by name, before anything is read."""

import jax
import numpy as np
import pytest
from _drawn import params_of, tiny_llama
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

MODEL = fm.LlamaForCausalLM(tiny_llama())
MESH = fs.make_mesh(fsdp=4, tensor=2)


@pytest.fixture(scope="module")
def params():
    return params_of(MODEL)


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("llama")
    MODEL.save_pretrained(params, path)
    return path


def deleted():
    params = params_of(MODEL)
    jax.tree.map(lambda leaf: leaf.delete(), params)
    return {"state_dict": params}


def specs():
    return {"shardings": jax.tree.map(lambda _: P(), MODEL.abstract_params())}


MISTAKES = {
    "shardings: text": ({"shardings": "fsdp"}, TypeError, "shardings: 'fsdp' is a str; expected a"),
    "shardings: spec": ({"shardings": P()}, TypeError, "shardings: P.* expected a jax.sharding"),
    "shardings: specs": (specs, TypeError, "shardings at lm_head/kernel: P"),
    "shardings: device": (
        {"shardings": jax.devices()[1]},
        TypeError,
        "is a Device; expected a jax",
    ),
    "shardings: abstract": (
        {"shardings": NamedSharding(MESH.abstract_mesh, P())},
        TypeError,
        "shardings: the mesh is abstract and has no devices",
    ),
    "shardings: rank": (
        {"shardings": NamedSharding(MESH, P("fsdp", "tensor"))},
        ValueError,
        r"layernorm/scale of shape \(16,\) cannot be placed .*more entries than axes",
    ),
    "shardings: size": (
        {
            "shardings": NamedSharding(
                jax.make_mesh((3,), ("x",), devices=jax.devices()[:3]), P("x")
            )
        },
        ValueError,
        r"of shape \(16, 64\) cannot be placed",
    ),
    "shardings: empty": (
        {"shardings": {}},
        ValueError,
        "shardings have no entry for lm_head/kernel",
    ),
    "pattern": ({"param_dtype": {1: "bf16"}}, ValueError, "pattern 1 is no regular expression"),
    "key_mapping: text": ({"key_mapping": "a"}, TypeError, "key_mapping is 'a'; expected {regular"),
    "key_mapping: list": ({"key_mapping": [("a", "b")]}, TypeError, "expected {regular expression"),
    "config: dict": (
        {"config": {"hidden_size": 1}},
        TypeError,
        "config is a dict: expected a conf",
    ),
    "config: class": (
        {"config": fm.LlamaConfig},
        TypeError,
        "config is LlamaConfig: expected a con",
    ),
    "state_dict: list": ({"state_dict": [1]}, fp.CheckpointError, "state_dict is a list; expected"),
    "state_dict: numbers": ({"state_dict": {1: np.ones(3)}}, fp.CheckpointError, "it holds '1'"),
    "state_dict: deleted": (deleted, fp.CheckpointError, "kernel' was deleted"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_D14_a_value_that_cannot_act_is_named(folder, name):
    given, error, said = MISTAKES[name]
    with pytest.raises(error, match=said):
        fm.LlamaForCausalLM.from_pretrained(folder, **(given() if callable(given) else given))


@pytest.mark.parametrize("name", [3, b"folder", ["folder"]], ids=str)
def test_P13_1_what_is_no_name(name):
    for cls in (fm.LlamaForCausalLM, fm.AutoModelForCausalLM):
        with pytest.raises(TypeError, match="name_or_path is .*expected a folder, a repository"):
            cls.from_pretrained(name)


def test_a_configuration_needs_a_name():
    for given in ({}, {"pretrained_model_name_or_path": None}):
        with pytest.raises(TypeError, match="AutoConfig.from_pretrained needs name_or_path"):
            fm.AutoConfig.from_pretrained(**given)


def test_P13_31_a_key_mapping_that_finds_nothing_is_said(folder):
    with pytest.warns(UserWarning, match=r"key_mapping: '\^zzz' found in no tensor's name"):
        fm.LlamaForCausalLM.from_pretrained(folder, key_mapping={"^zzz": "b"})


def test_S1_a_class_is_no_template(folder):
    with pytest.raises(TypeError, match="template is the class LlamaForCausalLM; give a model"):
        fp.load_sharded_checkpoint(fm.LlamaForCausalLM, folder)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"strict": "no"}, TypeError, "strict is 'no'; expected True or False"),
        ({"prefer_safe": 0}, TypeError, "prefer_safe is 0; expected True or False"),
        ({"naming": None}, TypeError, "naming is None; expected a Naming"),
        ({"max_host_memory": None}, ValueError, "max_host_memory is None; give bytes, or"),
        ({"max_host_memory": "1 kB"}, ValueError, "max_host_memory is 1000 bytes; it must be at"),
        ({"template": {"a": "x"}}, ValueError, "a is 'x', a str; expected an array"),
    ],
)
def test_loads_without_a_model_name_what_is_wrong(given, error, said, folder):
    with pytest.raises(error, match=said):
        fp.load_sharded_checkpoint(**{"template": MODEL, "folder": folder} | given)


@pytest.mark.parametrize("files", [None, 5, b"model.msgpack", [b"model.msgpack"]])
def test_shards_that_are_no_paths(files):
    with pytest.raises(TypeError, match="shard_files is (None|5); expected|path .* is b'model.msg"):
        fp.load_flax_sharded_weights(files)


def test_a_limit_of_memory_may_be_a_text(folder, params):
    loaded, _ = fp.load_sharded_checkpoint(MODEL, folder, max_host_memory="2MiB")
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_a_file_s_name_that_is_none(folder):
    with pytest.raises(TypeError, match="gguf_file is 5; expected a file's name"):
        fm.LlamaForCausalLM.from_pretrained(folder, gguf_file=5)
