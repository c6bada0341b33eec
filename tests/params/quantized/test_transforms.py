"""Every transform of params on trees that hold weights of several arrays."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _paths import LLAMA

import flaxmodels as fm
from flaxmodels import params as fp

IDS = np.array([[5, 7, 11, 3, 9, 20]])


def tree():
    random = np.random.default_rng(0)
    return {
        "layers": {
            str(i): {
                "kernel": fp.quantize(
                    {"kernel": random.standard_normal((64, 6), np.float32)}, "nf4"
                )["kernel"],
                "bias": np.full(6, i, np.float32),
            }
            for i in range(2)
        },
        "embedding": random.standard_normal((5, 64), np.float32),
    }


def paths(params):
    return [*fp.flatten(params)]


def test_P10_a_quantised_weight_is_one_leaf_of_the_functions_on_trees():
    params = tree()
    assert paths(params) == [
        "embedding",
        *("layers/0/bias", "layers/0/kernel", "layers/1/bias", "layers/1/kernel"),
    ]
    assert "layers/0/kernel/data" in fp.diff(params, params).__str__()
    assert fp.diff(params, tree()).equal
    assert jax.tree.structure(fp.unflatten(fp.flatten(params))) == jax.tree.structure(params)
    assert fp.get_leaf(params, "layers.0.kernel").shape == (64, 6)


def test_numbers_are_logical_and_bytes_are_packed():
    params = tree()
    assert fp.num_parameters(params) == 2 * (64 * 6 + 6) + 5 * 64
    packed = 6 * 32 + 6 * 4
    assert fp.memory_footprint(params) == 2 * (packed + 24) + 5 * 64 * 4
    assert sum(fp.memory_footprint(params, per_device=True).values()) == fp.memory_footprint(params)
    assert "float32+nf4" in fp.summary(params)


def test_casts_change_the_logical_dtype():
    params = fp.to_bf16(tree())
    leaf = params["layers"]["0"]["kernel"]
    assert leaf.dtype == jnp.bfloat16 and leaf.scale.dtype == np.float32
    assert params["embedding"].dtype == jnp.bfloat16 and leaf.dense().dtype == jnp.bfloat16
    kept = fp.to_bf16(tree(), lambda path, leaf: "kernel" not in path)
    assert kept["layers"]["0"]["kernel"].dtype == np.float32


def test_masks_select_the_whole_weight():
    params = tree()
    is_kernel = {"layers": {"0": True, "1": {"kernel": True, "bias": False}}, "embedding": False}
    frozen, others = fp.partition(params, lambda path, leaf: path.endswith("kernel"))
    assert paths(frozen) == ["layers/0/kernel", "layers/1/kernel"]
    assert jax.tree.structure(fp.merge(frozen, others)) == jax.tree.structure(params)
    assert paths(fp.select(params, is_kernel)) == [
        *("layers/0/bias", "layers/0/kernel", "layers/1/kernel")
    ]
    assert fp.mask_except(params, "kernel")["layers"]["0"] == {"bias": True, "kernel": False}


def test_layers_are_stacked_and_taken_apart():
    params = tree()
    stacked = fp.stack_layers(params)
    assert stacked["layers"]["kernel"].shape == (2, 64, 6)
    assert np.array_equal(
        stacked["layers"]["kernel"].dense()[1], params["layers"]["1"]["kernel"].dense()
    )
    assert fp.diff(fp.unstack_layers(stacked, "layers"), params).equal
    odd = tree()
    dense = np.ones((64, 6), np.float32)
    odd["layers"]["1"]["kernel"] = fp.quantize({"kernel": dense}, "int8")["kernel"]
    with pytest.raises(ValueError, match="layers/1/kernel is held as int8, in layer 0 as nf4"):
        fp.stack_layers(odd)


def test_nothing_is_computed_with_codes():
    params = tree()
    for function, args in (
        (fp.scale, (2.0,)),
        (fp.add, (tree(),)),
        (fp.interpolate, (tree(), 0.5)),
    ):
        with pytest.raises(ValueError, match="layers/0/kernel is held as nf4, with which nothing"):
            function(params, *args)
    trained = params | {"embedding": params["embedding"] + 1}
    average = fp.ema(params, trained, 0.5)
    assert average["layers"]["0"]["kernel"] is params["layers"]["0"]["kernel"]
    assert np.allclose(average["embedding"], params["embedding"] + 0.5)
    assert np.allclose(
        fp.scale(params, 2.0, fp.mask_except(params, "kernel"))["embedding"],
        2 * params["embedding"],
    )


def test_P10_dequantize_gives_arrays():
    params = tree()
    dense = fp.dequantize(params, jnp.bfloat16)
    assert dense["layers"]["0"]["kernel"].dtype == jnp.bfloat16
    assert dense["embedding"] is params["embedding"]
    assert np.array_equal(
        fp.dequantize(params)["layers"]["1"]["kernel"], params["layers"]["1"]["kernel"].dense()
    )


def test_what_jax_and_python_do_with_trees():
    params = tree()
    there = jax.jit(lambda x: x)(params)
    assert fp.diff(params, there).equal
    assert fp.diff(jax.device_get(there), pickle.loads(pickle.dumps(params))).equal
    abstract = jax.eval_shape(lambda: fp.quantize({"kernel": jnp.ones((64, 6))}, "nf4"))
    assert abstract["kernel"].shape == (64, 6)
    assert fp.dequantize(abstract)["kernel"] == jax.ShapeDtypeStruct((64, 6), np.float32)


@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.soak), True])
def test_P10_a_model_takes_them_as_it_takes_arrays(scan):
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA, scan_layers=scan, progress=False)
    packed = fp.quantize(jax.device_get(params), "nf4")  # NumPy compiles nothing
    packed["model"]["embed_tokens"] = fp.quantize(packed["model"]["embed_tokens"], "int8", True)
    dense = fp.dequantize(packed)
    if scan:  # the layers of a decode loop
        made = jax.eval_shape(lambda x: model.generate(x, IDS, max_new_tokens=4), packed)
        assert made.sequences.shape == (len(IDS), IDS.shape[1] + 4)
    apply = jax.jit(lambda params: model.apply({"params": params}, IDS).logits)
    assert np.allclose(apply(packed), apply(dense), atol=2e-5)
    assert not np.allclose(apply(dense), apply(params), atol=1e-3)
