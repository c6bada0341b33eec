"""Every transform of params on trees with adapters, beside arrays and beside quantised weights."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from _adapted import DORA, LORA, adapted, base, drawn, stacked

from flaxmodels import params as fp

UP, A = "layers/0/up/kernel", "layers/0/up/kernel/adapters/default/a"


@pytest.fixture(scope="module", params=["array", "nf4"])
def params(request):
    if request.param == "array":
        return adapted(DORA)
    packed = fp.quantize(base(), "nf4")
    return drawn(fp.lora_init(jax.random.key(1), packed, DORA), 1)


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and fp.diff(a, b).equal


def test_an_adapted_weight_is_one_leaf_of_its_bases_shape(params):
    assert fp.flatten(params).keys() == fp.flatten(base()).keys()
    assert fp.get_leaf(params, UP).shape == (12, 16) and same(
        fp.unflatten(fp.flatten(params)), params
    )
    assert fp.num_parameters(params) == fp.num_parameters(base())
    trained, rest = fp.split_adapters(params)
    each = 12 * 3 + 3 * 16 + 16 + 16 * 3 + 3 * 12 + 12  # A, B and magnitude of up and down
    assert fp.num_parameters(trained) == 3 * each
    scales = 4 * 6
    assert fp.memory_footprint(params) == fp.memory_footprint(rest) + 4 * 3 * each
    without = fp.memory_footprint(fp.without_adapters(params))
    assert fp.memory_footprint(params) == without + 4 * 3 * each + scales
    assert sum(fp.memory_footprint(params, per_device=True).values()) == fp.memory_footprint(params)
    assert "+LoRA" in fp.summary(params)


def test_differences_are_named_array_by_array(params):
    trained, rest = fp.split_adapters(params)
    other = fp.join_adapters(jax.tree.map(lambda x: x + 1, trained), rest)
    rows = [row.path for row in fp.diff(params, other).rows if not row.equal]
    assert A in rows and len(rows) == 3 * 6 and all("/adapters/default/" in row for row in rows)


def test_masks_parts_and_casts_take_it_whole(params):
    is_up = lambda path, leaf: path == UP  # noqa: E731
    chosen, others = fp.partition(params, is_up)
    assert [*fp.flatten(chosen)] == [UP] and same(fp.merge(chosen, others), params)
    assert same(fp.select(params, is_up), chosen)
    assert fp.mask_except(params, "kernel")["layers"]["0"]["up"] == {"bias": True, "kernel": False}
    half = fp.to_bf16(params)
    leaf = half["layers"]["0"]["up"]["kernel"]
    lora = leaf.adapters["default"]
    assert leaf.dtype == lora.a.dtype == lora.magnitude.dtype == jnp.bfloat16
    assert lora.scale.dtype == np.float32
    kept = fp.to_bf16(params, lambda path, _: path != UP)
    assert kept["layers"]["0"]["up"]["kernel"] is params["layers"]["0"]["up"]["kernel"]


def test_layers_are_stacked_and_taken_apart(params):
    there = stacked(params)
    assert there["layers"]["up"]["kernel"].shape == (3, 12, 16)
    assert same(fp.unstack_layers(there, "layers"), params)
    some = fp.lora_init(jax.random.key(0), base(), {**LORA, "target_modules": ["layers.1.up"]})
    with pytest.raises(ValueError, match="layers/1/up/kernel is held as float32.LoRA, in layer 0"):
        stacked(some)


def test_averages_are_of_the_arrays_and_codes_are_kept(params):
    trained, rest = fp.split_adapters(params)
    other = fp.join_adapters(jax.tree.map(lambda x: x + 1, trained), rest)
    average = fp.ema(params, other, 0.5)
    found = fp.split_adapters(average)[0]
    assert all(
        np.allclose(a, b + 0.5, atol=1e-6)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(trained), strict=True)
    )
    assert same(fp.without_adapters(average), fp.without_adapters(params))
    assert same(fp.interpolate(params, other, 1.0), other)


def test_jit_pickle_and_orbax_keep_it(params, tmp_path):
    assert same(jax.jit(lambda x: x)(params), params)
    assert same(pickle.loads(pickle.dumps(jax.device_get(params))), jax.device_get(params))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", params)
        checkpointer.wait_until_finished()
        assert same(checkpointer.restore(tmp_path / "state", shapes), params)
