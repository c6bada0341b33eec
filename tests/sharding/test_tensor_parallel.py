"""P5, P13.20 to P13.22: tensor parallelism in Transformers' words."""

import functools
import types
from typing import Any

import jax
import numpy as np
import pytest
from _drawn import applied, host_params_of, tiny_llama
from flax import linen as nn

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.checkpoints.model_plan import PlanOptions
from flaxmodels.core.model import Model

CONFIG = tiny_llama(vocab_size=32, num_attention_heads=8, max_position_embeddings=16)
IDS = np.arange(12, dtype="int32").reshape(2, 6)
PLAN = {
    "layers.*.self_attn.q_proj": "colwise",
    "model.layers.*.self_attn.o_proj": "replicate",
    "layers.*.mlp.gate_proj.weight": "colwise_gather_output",
    "layers.1.mlp.down_proj": "rowwise",
    "embed_tokens": "embedding_colwise",
    "layers.*.input_layernorm": "sequence_parallel",
    "layers.*.mlp": "all_reduce",
}


@functools.cache
def made():
    model = fm.LlamaForCausalLM(CONFIG)
    params = host_params_of(model)
    return model, params, applied(model, params, IDS).logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("llama")
    made()[0].save_pretrained(made()[1], path)
    return path


def load(folder, **options):
    return fm.LlamaForCausalLM.from_pretrained(folder, **options)


def specs(params):
    return {path: tuple(leaf.sharding.spec) for path, leaf in fp.flatten(params).items()}


def test_P5_is_parallelizable_is_an_attribute_that_says_whether_there_are_rules():
    assert fm.LlamaForCausalLM.is_parallelizable and fm.BertModel.is_parallelizable

    class Plain(Model):
        config_class = fm.LlamaConfig

        @nn.compact
        def __call__(self, input_ids):
            return nn.Dense(8)(input_ids.astype("float32"))

    assert Plain.is_parallelizable is False
    options = PlanOptions(tp_plan="auto")
    with pytest.raises(ValueError, match="Plain has no rules for tensor parallelism"):
        options.ruled(Plain(CONFIG))


def test_P13_20_tp_plan_auto_is_the_rules_of_the_family(folder):
    model, params = load(folder, tp_plan="auto")
    mesh = fs.make_mesh(data=1, fsdp=1, tensor=8)
    want = jax.tree.map(lambda s: s.spec, fs.shardings(model.abstract_params(), mesh))
    assert specs(params) == {p: tuple(s) for p, s in fp.flatten(want).items()}
    logits = jax.jit(model.apply)({"params": params}, IDS).logits
    np.testing.assert_allclose(logits, made()[2], atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_P13_20_a_plan_of_styles_becomes_rules_of_paths(folder, scan):
    plan = {k: v for k, v in PLAN.items() if not (scan and ".1." in k)}
    model, params = load(folder, tp_plan=plan, tp_size=4, scan_layers=scan)
    found, lead = specs(params), (None,) if scan else ()
    at = "model/layers/" if scan else "model/layers/1/"
    assert found[f"{at}self_attn/q_proj/kernel"] == (*lead, None, "tensor")
    assert found[f"{at}self_attn/o_proj/kernel"] == (*lead, None, None)
    assert found[f"{at}mlp/gate_proj/kernel"] == (*lead, None, "tensor")
    assert found[f"{at}mlp/down_proj/kernel"][len(lead)] == "tensor"
    assert found["model/embed_tokens/embedding"] == (None, "tensor")
    assert found[f"{at}self_attn/k_proj/kernel"][-1] == "tensor", "what is not named is kept"
    assert ("residual_length", "tensor") in model.rules
    logits = jax.jit(model.apply)({"params": params}, IDS).logits
    np.testing.assert_allclose(logits, made()[2], atol=1e-5)


def test_P13_20_biases_follow_their_kernels():
    template = fm.GPT2Model(fm.GPT2Config(n_layer=1, n_embd=8, n_head=2)).abstract_params()
    paths = list(fp.flatten(template))
    rules = fs.tensor_rules({"h.*.mlp.c_fc": "colwise", "h.*.mlp.c_proj": "rowwise"}, paths, ())
    template = {path: leaf for path, leaf in fp.flatten(template).items() if "/mlp/" in path}
    placed = fs.place(fp.unflatten(template), fs.make_mesh(tensor=8), rules)
    found = {row.path.split("/mlp/")[1]: tuple(row.spec) for row in placed.rows}
    assert found == {
        "c_fc/kernel": (None, "tensor"),
        "c_fc/bias": ("tensor",),
        "c_proj/kernel": ("tensor", None),
        "c_proj/bias": (None,),
    }


def test_P13_21_tp_size_makes_a_mesh(folder):
    for options in ({"tp_size": 4}, {"tp_size": 4, "tp_plan": "auto"}):
        mesh = jax.tree.leaves(load(folder, **options)[1])[0].sharding.mesh
        assert dict(mesh.shape) == {"data": 2, "fsdp": 1, "tensor": 4}


def test_P13_22_device_mesh_is_mesh(folder):
    for mesh, axis in (
        (jax.make_mesh((8,), ("tp",)), "tp"),
        (jax.make_mesh((8,), ("x",)), "x"),
        (fs.make_mesh(data=2, tensor=4), "tensor"),
    ):
        model, params = load(folder, device_mesh=mesh, tp_plan="auto")
        assert specs(params)["lm_head/kernel"] == (None, axis)
        assert jax.tree.leaves(params)[0].sharding.mesh == fs.check_mesh(mesh)
    _, params = load(folder, device_mesh=fs.make_mesh(fsdp=8))
    assert specs(params)["lm_head/kernel"] == ("fsdp", None)


def test_P13_20_distributed_config(folder):
    config = {"tp_size": 2, "fsdp_size": 4, "tp_plan": "auto"}
    for given in (config, types.SimpleNamespace(**config, pp_size=1, ep_implementation="auto")):
        _, params = load(folder, distributed_config=given)
        assert specs(params)["lm_head/kernel"] == ("fsdp", "tensor")
    plan = fm.load_plan(folder, distributed_config={"dp_replicate_size": 2, "tp_plan": PLAN})
    sharding: Any = plan.leaves[0].sharding
    assert dict(sharding.mesh.shape) == {"data": 2, "fsdp": 1, "tensor": 4}


REFUSED = {
    "two meshes": (
        {"mesh": fs.make_mesh(tensor=8), "device_mesh": fs.make_mesh(tensor=8)},
        TypeError,
        "give mesh or device_mesh",
    ),
    "shardings": (
        {"tp_plan": "auto", "shardings": jax.sharding.SingleDeviceSharding(jax.devices()[0])},
        TypeError,
        "give tp_plan, tp_size or distributed_config or shardings, not both",
    ),
    "size unlike mesh": (
        {"tp_size": 2, "mesh": fs.make_mesh(tensor=8)},
        ValueError,
        "tp_size is 2, and axis 'tensor' of the mesh has size 8",
    ),
    "which axis": (
        {"tp_plan": "auto", "device_mesh": jax.make_mesh((4, 2), ("x", "y"))},
        ValueError,
        "which of x, y is not said",
    ),
    "size": ({"tp_size": 3}, ValueError, "tp_size 3 does not fit the 8 devices"),
    "zero": ({"tp_size": 0}, ValueError, "tp_size is 0; expected at least 1"),
    "text": ({"tp_size": "8"}, ValueError, "tp_size is '8'; expected a whole number"),
    "true": ({"tp_size": True}, ValueError, "tp_size is True; expected a whole number"),
    "plan": ({"tp_plan": "all"}, TypeError, "tp_plan is 'all': expected 'auto'"),
    "empty": ({"tp_plan": {}}, ValueError, "tp_plan is empty"),
    "style": (
        {"tp_plan": {"lm_head": "colwize"}},
        ValueError,
        r"is 'colwize' \(nearest: 'colwise'\); there are colwise, colwise_gather_output,",
    ),
    "experts": (
        {"tp_plan": {"lm_head": "moe_tp_experts"}},
        ValueError,
        "a style for experts, which is not there yet",
    ),
    "name": (
        {"tp_plan": {"layers.*.self_attn.qproj": "colwise"}},
        ValueError,
        r"no param is at 'layers.\*.self_attn.qproj' \(nearest: '.*q_proj",
    ),
    "kind": (
        {"tp_plan": {"norm": "colwise"}},
        ValueError,
        "'colwise', which is for kernel and bias, and there is model/norm/scale",
    ),
    "both": (
        {"tp_size": 2, "distributed_config": {"tp_size": 2}},
        TypeError,
        "give distributed_config or tp_size, not both",
    ),
    "pipeline": ({"distributed_config": {"pp_size": 2}}, ValueError, "pp_size=2 is not done here"),
    "sequence": (
        {"distributed_config": types.SimpleNamespace(enable_sequence_parallel=True)},
        ValueError,
        "enable_sequence_parallel=True is not done here",
    ),
    "key": ({"distributed_config": {"tp": 2}}, TypeError, "has no 'tp'; it takes tp_size"),
    "config": ({"distributed_config": 3}, TypeError, "distributed_config is a int"),
    "sizes": (
        {"distributed_config": {"tp_size": 2, "fsdp_size": 2, "dp_replicate_size": 1}},
        ValueError,
        "fsdp_size 2 x dp_replicate_size 1 x tp_size 2 does not fit the 8 devices",
    ),
}


@pytest.mark.parametrize(("options", "error", "said"), REFUSED.values(), ids=REFUSED)
def test_P13_20_21_22_what_contradicts_or_says_nothing_is_refused(folder, options, error, said):
    with pytest.raises(error, match=said):
        fm.load_plan(folder, **options)
