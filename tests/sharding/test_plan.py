"""Plans: what they count is what XLA compiles, and large models take moments."""

import json
import math
import time

import jax
import numpy as np
import plans
import pytest
from _drawn import tiny_llama
from _paths import GOLDENS
from jax.sharding import AbstractMesh

import flaxmodels as fm
from flaxmodels import sharding as fs

CONFIG = tiny_llama(hidden_size=32, intermediate_size=48, num_attention_heads=8)
BATCH, LENGTH = 8, 16
CASES = {
    "tensor": ("tensor", {"tensor": 8}),
    "fsdp": ("fsdp", {"fsdp": 8}),
    "context": ((("length", "context"), *fs.DEFAULT_RULES), {"context": 8}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_forward_pass_has_the_collectives_of_its_plan(case):
    rules, axes = CASES[case]
    model, mesh = fm.LlamaForCausalLM(CONFIG, rules=rules), fs.make_mesh(**axes)
    plan = fs.plan(model, mesh, batch=BATCH, length=LENGTH, dtype="float32")
    template = model.abstract_params()
    placed = jax.tree.map(lambda x, s: x.update(sharding=s), template, plan.placement.shardings)
    ids = jax.ShapeDtypeStruct((BATCH, LENGTH), np.int32)
    forward = jax.jit(lambda params, ids: model.apply({"params": params}, ids).logits)
    found = fs.summary(fs.collectives(forward.lower(placed, ids).compile(), mesh))
    assert {(each.kind, each.axes): (each.count, each.nbytes) for each in plan.forward} == found


def test_a_training_step_adds_what_brings_gradients_back():
    mesh = AbstractMesh((4, 2), ("fsdp", "tensor"))
    plan = fs.plan(fm.LlamaForCausalLM(CONFIG), mesh, batch=BATCH, length=LENGTH)
    count = lambda found: {(each.kind, each.axes): each.count for each in found}  # noqa: E731
    assert count(plan.forward) == {
        ("all-gather", ("fsdp",)): 16,
        ("all-reduce", ("tensor",)): 5,
        ("all-to-all", ("fsdp",)): 1,
    }
    assert count(plan.train) == {
        ("all-gather", ("fsdp",)): 16,
        ("all-reduce", ("fsdp",)): 5,  # norms
        ("all-reduce", ("tensor",)): 10,
        ("all-to-all", ("fsdp",)): 2,
        ("reduce-scatter", ("fsdp",)): 15,
    }
    split = fs.plan(fm.LlamaForCausalLM(CONFIG, rules="sequence"), mesh, batch=8, length=LENGTH)
    kinds = {each.kind: each.count for each in split.forward if each.axes == ("tensor",)}
    assert kinds == {"all-gather": 5, "reduce-scatter": 5}


@pytest.mark.parametrize("name", plans.MODELS)
def test_large_models_are_planned_in_seconds(name):
    make, rules, meshes = plans.MODELS[name]
    template, began = make(), time.process_time()
    whole = 2 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(template))
    for devices, axes in meshes.items():
        plan = plans.plan(template, rules, axes)
        assert whole <= plan.bytes_per_device * devices <= 40 * whole
        hosts = devices // 8
        assert plan.bytes_per_device <= plan.bytes_per_host <= 8 * plan.bytes_per_device
        assert plan.bytes_per_host * hosts >= whole * 0.999
        assert plan.load_seconds >= plan.bytes_per_host / plans.RATES.disk
        assert plan.decode_seconds > 0
        assert f"on {devices} devices" in str(plan) and "training step" in str(plan)
    assert time.process_time() - began < 5
    if name == "DeepSeek-V3":
        last = plans.plan(template, rules, plans.EXPERTS[4096])
        kinds = {(each.kind, each.axes): each.count for each in last.forward}
        assert kinds["all-to-all", ("expert",)] == 2 * 58
        assert abs(whole / 2 / 671026404352 - 1) < 1e-6
    else:
        published = json.loads((GOLDENS / "published.json").read_text())
        counts = [entry["parameters"] for entry in published.values()]
        assert whole / 2 in counts


def test_plans_of_nothing_are_refused():
    mesh = AbstractMesh((8,), ("tensr",))
    with pytest.raises(ValueError, match="tensr"):
        fs.plan(fm.LlamaForCausalLM(CONFIG), mesh)
    with pytest.raises(ValueError, match="does not divide"):
        fs.plan(fm.LlamaForCausalLM(CONFIG), AbstractMesh((3,), ("tensor",)))
