"""Compiled functions of NumPy arrays: nobody sees that they are."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import random_array, same

from flaxmodels import params as fp
from flaxmodels.params.host import kernels
from flaxmodels.params.host.copies import contiguous, empty

NARROW = ("float32", "bfloat16", "float16", "float8_e4m3fn")
SIZE = (1 << 20) + 77


@pytest.mark.parametrize("dtype", NARROW)
def test_arithmetic_is_that_of_jax_arrays_to_the_bit(dtype):
    """Of any bits: infinities and subnormals too. Of the sum of two NaNs the order of a machine
    instruction's operands decides the sign."""

    def alike(made: np.ndarray, expected: np.ndarray) -> bool:
        nan = np.isnan(made)
        return np.array_equal(nan, np.isnan(expected)) and same(made[~nan], expected[~nan])

    a, b = ({"w": random_array(seed, (SIZE,), dtype)} for seed in (0, 1))
    arrays = [jax.tree.map(jnp.asarray, tree) for tree in (a, b)]
    whole = [{"w": contiguous(tree["w"][::-1])} for tree in (a, b)]  # large and aligned
    for call in (fp.add, lambda a, b: fp.interpolate(a, b, 0.3)):
        expected = np.asarray(call(*arrays)["w"])
        assert alike(call(a, b)["w"], expected)
        assert alike(call(*whole)["w"], expected[::-1])


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("stored", NARROW)
def test_casts_are_those_of_xla_to_the_bit(stored, dtype):
    leaf = random_array(0, (70_001,), stored)
    expected = np.asarray(jax.lax.convert_element_type(jnp.asarray(leaf), jnp.dtype(dtype)))
    for kind in (leaf, jnp.asarray(leaf)):
        assert same(np.asarray(fp.cast({"w": kind}, dtype)["w"]), expected)


def test_nan_in_a_leaf_is_no_error():
    leaf = random_array(0, (2, 1 << 16), np.float32).copy()
    leaf[0, 0] = np.nan
    expected = fp.to_bf16({"w": leaf})["w"]
    with jax.transfer_guard("disallow"), jax.debug_nans(True):
        assert same(fp.to_bf16({"w": leaf})["w"], expected)


def test_large_leaves_are_computed_whole_and_their_memory_is_numpys():
    a, b = ({"w": empty((512, 1024), np.float32)} for _ in range(2))
    a["w"][:], b["w"][:] = 1, 2
    results = [fp.add(a, b)["w"] for _ in range(3)]
    assert all(x.base is not None and type(x) is np.ndarray for x in results)
    results[0][:] = 7
    results[1] += 1
    del a, b
    gc.collect()
    rest = [fp.scale({"w": results[2]}, 2.0)["w"] for _ in range(3)]
    assert [float(x.min()) for x in (*results, *rest)] == [7, 4, 3, 6, 6, 6]
    assert [float(x.max()) for x in (*results, *rest)] == [7, 4, 3, 6, 6, 6]


def test_donated_memory_is_overwritten():
    a, b = (np.random.default_rng(seed).standard_normal(SIZE, np.float32) for seed in (0, 1))
    expected = fp.add({"w": a}, {"w": b})["w"]
    result = fp.add({"w": a}, {"w": b}, donate=True)["w"]
    assert result is a and same(a, expected)


def test_no_transfer_that_a_guard_would_refuse():
    a, b = ({"w": random_array(seed, (70_001,), np.float16)} for seed in (0, 1))
    with jax.transfer_guard("disallow"):
        assert fp.interpolate(a, b, 0.3)["w"].shape == (70_001,)
        assert fp.to_fp32(a)["w"].dtype == np.float32
        assert not fp.diff(a, b).equal


def test_numpy_computes_where_jax_has_no_cpu_device(monkeypatch):
    a, b = ({"w": np.linspace(0, 1, 70_001, dtype=np.float16) + i} for i in range(2))
    expected = fp.interpolate(a, b, 0.25)["w"], fp.to_fp32(a)["w"], fp.diff(a, b)
    monkeypatch.setattr(kernels, "_cpu", lambda: None)
    monkeypatch.setattr(kernels, "_compiled", None)
    np.testing.assert_allclose(fp.interpolate(a, b, 0.25)["w"], expected[0], rtol=1e-3)
    assert same(fp.to_fp32(a)["w"], expected[1]) and fp.diff(a, b) == expected[2]
