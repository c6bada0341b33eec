"""A model whose checkpoints join its projections, through the public doors: what its config says
decides how."""

import dataclasses

import jax
import numpy as np
import pytest
from _drawn import params_of, tiny_llama
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.checkpoints import model_plan as planning
from flaxmodels.commands.lossless import account
from flaxmodels.params.checkpoint import make_plan as plans
from flaxmodels.params.checkpoint.device.routes import Limits

CONFIG = tiny_llama(
    vocab_size=24,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=16,
    attention_bias=True,
)


class JoinedForCausalLM(fm.LlamaForCausalLM):
    """q, k and v lie together for each key-value head, gate and up one after the other; its files
    have layers more than the model."""

    @property
    def naming(self) -> fp.Naming:  # pyright: ignore[reportIncompatibleVariableOverride]
        groups = self.config.num_key_value_heads
        joined = (
            fp.Joined("self_attn/qkv_proj", ("q_proj", "k_proj", "v_proj"), groups),
            fp.Joined("mlp/gate_up_proj", ("gate_proj", "up_proj")),
        )
        counter = fp.Constant(r"(.*)norm/scale", r"\1norm.count", _zero)
        return dataclasses.replace(
            fm.LlamaForCausalLM.naming,
            joined=joined,
            constants=(counter,),
            ignored_from=(("layers", self.config.num_hidden_layers),),
        )


def _zero():
    return np.zeros((), np.int64)


@pytest.fixture(scope="module")
def made():
    model = JoinedForCausalLM(CONFIG)
    return model, jax.tree.map(np.asarray, params_of(model))


def check(params, expected):
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params, expected)))


@pytest.mark.parametrize("format", ["safetensors", "msgpack", "orbax"])
def test_saved_and_loaded(made, format, tmp_path):
    model, params = made
    shards = {} if format == "orbax" else {"max_shard_size": "4KB"}
    model.save_pretrained(params, tmp_path, format=format, **shards)
    _, looped = JoinedForCausalLM.from_pretrained(tmp_path)
    check(looped, params)
    scanned, stacked = JoinedForCausalLM.from_pretrained(tmp_path, scan_layers=True)
    check(stacked, fp.stack_layers(params, model.naming.stacks))
    scanned.save_pretrained(stacked, tmp_path / "again", format=format)
    assert fp.diff(JoinedForCausalLM.from_pretrained(tmp_path / "again")[1], params).equal
    source = fp.open_checkpoint(tmp_path / "again")
    found = account(model, source)
    assert found.is_whole and not found.buffers
    assert {leaf.path for leaf in found.leaves} == fp.flatten(params).keys()
    loaded, result = fp.load_sharded_checkpoint(model, tmp_path / "again")
    check(loaded, params)
    assert not any(result)


def test_names_of_its_files(made, tmp_path):
    model, params = made
    model.save_pretrained(params, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    names = {name.removeprefix("model.layers.1.") for name in tensors if ".layers.1." in name}
    assert names == {
        "self_attn.qkv_proj.weight", "self_attn.qkv_proj.bias", "self_attn.o_proj.weight",
        "self_attn.o_proj.bias", "mlp.gate_up_proj.weight", "mlp.down_proj.weight",
        "input_layernorm.weight", "input_layernorm.count", "post_attention_layernorm.weight",
        "post_attention_layernorm.count",
    }  # fmt: skip
    attention = params["model"]["layers"]["1"]["self_attn"]
    q, k, v = (attention[f"{name}_proj"]["kernel"].T for name in "qkv")
    first = np.concatenate([q[:8], k[:4], v[:4]])  # of the first key-value head
    assert (tensors["model.layers.1.self_attn.qkv_proj.weight"][:16] == first).all()


def test_layers_that_it_does_not_have(made, tmp_path):
    """A file of three layers opens as a model of two, and the third layer is no parameter of it."""
    model, params = made
    model.save_pretrained(params, tmp_path)
    shorter = CONFIG.replace(num_hidden_layers=2)
    _, loaded, info = JoinedForCausalLM.from_pretrained(
        tmp_path, config=shorter, output_loading_info=True
    )
    assert not info["unexpected_keys"] and not info["missing_keys"]
    assert sorted(loaded["model"]["layers"]) == ["0", "1"]
    found = account(JoinedForCausalLM(shorter), fp.open_checkpoint(tmp_path))
    assert len(found.buffers) == 10 and not found.left


def test_another_number_of_groups(made, tmp_path):
    """Of a config with other heads the columns would be other ones: shapes tell."""
    model, params = made
    model.save_pretrained(params, tmp_path)
    with pytest.raises(
        fp.CheckpointError, match=r"qkv_proj.weight' has shape \(32, 16\), expected"
    ):
        JoinedForCausalLM.from_pretrained(tmp_path, config=CONFIG.replace(num_key_value_heads=1))


@pytest.mark.parametrize("format", ["safetensors", "msgpack", "orbax"])
def test_devices_make_of_joined_tensors_what_the_host_makes(made, format, tmp_path, monkeypatch):
    """In small chunks, under the names and layouts of all three."""
    model, params = made
    model.save_pretrained(params, tmp_path, format=format)
    monkeypatch.setattr(plans, "limits_of", lambda _: Limits(2048, 1024, 32))
    planned = []

    def make_plan(*args, **options):
        planned.append(plans.make_plan(*args, route="device", **options))
        return planned[-1]

    monkeypatch.setattr(planning, "make_plan", make_plan)
    check(JoinedForCausalLM.from_pretrained(tmp_path)[1], params)
    stacked = JoinedForCausalLM.from_pretrained(tmp_path, scan_layers=True)[1]
    check(stacked, fp.stack_layers(params, model.naming.stacks))
    for plan in planned:
        assert sum(leaf.route.kind == "device" for leaf in plan.leaves) >= 9
