"""Params in host memory and on several devices: the staged run gives what one program gives."""

from typing import Any

import jax
import numpy as np
import pytest
import reference
from _drawn import applied, params_of, tiny_llama
from jax.sharding import SingleDeviceSharding

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.placement.outline import outline_of

# An encoder and a decoder with a cache of both; a decoder alone is in the tests that follow, the
# others by --all.
ALWAYS = ("bart",)
MORE = (
    "bert",
    "llama",
    "gemma3_text",
    "gpt2",
    "bloom",
    "opt",
    "t5",
    "longt5",
    "big_bird",
    "gpt_neox",
    "cohere2",
    "modernbert",
)


def staged(model, params):
    """The params with the layers in host memory and the rest on two devices in turn."""
    starts = tuple(f"{path}/" for path, _ in outline_of(model).stacks)
    devices = jax.devices()
    placed = {}
    for number, (path, leaf) in enumerate(fp.flatten(params).items()):
        if path.startswith(starts):
            place = SingleDeviceSharding(devices[1], memory_kind="pinned_host")
        else:
            place = SingleDeviceSharding(devices[number % 2])
        placed[path] = jax.device_put(leaf, place)
    return fp.unflatten(placed)


def same(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert a.shape == b.shape and np.abs(a - b).max() <= 1e-5 * max(1, np.abs(a).max())


@pytest.mark.parametrize(
    "family", [*ALWAYS, *(pytest.param(name, marks=pytest.mark.soak) for name in MORE)]
)
def test_P13_18_staged_is_the_same(family):
    table = reference.load(family)
    name = table.table.generating or table.table.main
    model, params = table.load(name)
    placed = staged(model, params)
    of_layers = tuple(key for key in table.expected(name) if "." in key)
    have = model.apply({"params": placed}, **table.inputs(name))
    table.check(name, have, leave=(" ", *of_layers))
    if model.can_generate() and "generated" in table.golden:
        inputs = table.inputs(name, "whole" if table.table.encodes else "padded")
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        told = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": (), "pad_token_id": 0}
        have = model.generate(placed, ids, mask, **told).sequences
        have = have[:, 0 if table.table.decodes else ids.shape[1] : -1]  # the last may be forced
        want = np.asarray(table.golden["generated"])[:, : have.shape[1]]
        np.testing.assert_array_equal(have, want)


CONFIG = tiny_llama()
IDS = np.arange(12, dtype=np.int32).reshape(2, 6)


@pytest.fixture(scope="module")
def llama():
    model = fm.LlamaForCausalLM(CONFIG)
    params = params_of(model)
    return model, params, staged(model, params)


def test_P13_18_hidden_states_attentions_and_cache(llama):
    model, params, placed = llama
    told = {"output_hidden_states": True, "output_attentions": True, "logits_to_keep": 2}
    cache = model.init_cache(2, 8)
    want = applied(model, params, IDS, cache=cache, **told)
    have = model.apply({"params": placed}, IDS, cache=cache, **told)
    same(want, have)
    more = IDS[:, :1]
    want = applied(model, params, more, cache=want.cache)
    same(want, model.apply({"params": placed}, more, cache=have.cache))


def test_P13_18_bad_input_of_staged_runs(llama):
    model, params, placed = llama
    variables = {"params": placed}
    with pytest.raises(ValueError, match="the model has the tokens 0 to 63"):
        model.apply(variables, IDS + 60)
    with pytest.raises(
        ValueError, match="the cache has 4 slots, 0 of them filled, and there are 6"
    ):
        model.apply(variables, IDS, cache=model.init_cache(2, 4))
    with pytest.raises(TypeError, match="cache is a str; expected what init_cache returns"):
        model.apply(variables, IDS, cache="x")
    with pytest.raises(TypeError, match="cannot be traced: call model.apply outside of jit"):
        jax.jit(lambda ids: model.apply(variables, ids))(IDS)
    with pytest.raises(TypeError, match="params in host memory are traced"):
        jax.jit(lambda p: model.apply({"params": p}, IDS))(params | {"model": placed["model"]})
    with pytest.raises(TypeError, match="rngs needs params on one device"):
        model.apply(variables, IDS, deterministic=False, rngs={"dropout": jax.random.key(0)})
    with pytest.raises(TypeError, match="scan_layers=True keeps all layers in one array"):
        model.clone(scan_layers=True).apply(variables, IDS)
    with jax.set_mesh(jax.make_mesh((8,), ("x",))):
        with pytest.raises(TypeError, match="jax.set_mesh asks for all devices .*: call outside"):
            model.apply(variables, IDS)
    layers = placed["model"]["layers"]
    for wrong, said in (
        ({"0": layers["0"]}, "the params have no model/layers/1; the model has 2 layers"),
        (layers | {"2": layers["0"]}, "model/layers/2/.*: the model has the layers .*/0 to 1"),
    ):
        with pytest.raises(ValueError, match=said):
            model.apply({"params": placed | {"model": placed["model"] | {"layers": wrong}}}, IDS)
    alone = params["model"]["layers"]["0"]
    spread = jax.device_put(
        alone, jax.NamedSharding(jax.make_mesh((8,), ("x",)), jax.sharding.PartitionSpec())
    )
    mixed = placed["model"] | {"layers": placed["model"]["layers"] | {"0": spread}}
    with pytest.raises(TypeError, match="8 devices at once, and others of the params are offload"):
        model.apply({"params": placed | {"model": mixed}}, IDS)


def test_a_leaf_that_is_missing_or_misshaped_is_named_by_its_whole_path(llama):
    model, _, placed = llama
    leaves, name = fp.flatten(placed), "model/layers/1/mlp/up_proj/kernel"
    short = {path: leaf for path, leaf in leaves.items() if path != name}
    for tree, said in (
        (short, "model/layers/1: the params have no mlp/up_proj/kernel"),
        (leaves | {name: leaves[name][1:]}, r"model/layers/1: mlp/up_proj/kernel has shape"),
    ):
        with pytest.raises(ValueError, match=said):
            model.apply({"params": fp.unflatten(tree)}, IDS)
    drops = fm.LlamaForCausalLM(CONFIG.replace(attention_dropout=0.5))
    with pytest.raises(ValueError, match="give rngs={'dropout': key}"):
        drops.apply({"params": placed}, IDS, deterministic=False)


def test_P13_18_one_program_serves_all_layers_of_a_kind(llama):
    from flaxmodels.placement.programs import run_layer

    _, _, placed = llama
    model = fm.LlamaForCausalLM(CONFIG.replace(rms_norm_eps=1e-4))
    counted: Any = run_layer
    before = counted._cache_size()
    model.apply({"params": placed}, IDS)
    assert counted._cache_size() == before + 1
