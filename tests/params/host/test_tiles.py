"""Compiled functions of NumPy arrays, tile by tile: their cuts, and that nobody sees them."""

import gc
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import quick, random_array, same
from hypothesis import given
from hypothesis import strategies as st

from flaxmodels import params as fp
from flaxmodels.params.host import tiles
from flaxmodels.params.host.copies import contiguous, empty

NARROW = ("float32", "bfloat16", "float16", "float8_e4m3fn")
SIZE = 3 * tiles.TILE_BYTES // 4 + 77  # neither a tile of any of them nor a multiple


@quick
@given(st.integers(0, 3000), st.integers(0, 40), st.sampled_from([16, 32, 1024]))
def test_cuts_cover_an_array_and_begin_on_cache_lines(size, offset, step):
    array = empty((size + offset,), np.float32)[offset:]
    parts = tiles.cuts(array, step)
    covered = [i for part in parts for i in range(part.start, part.stop)]
    assert covered == list(range(size))
    assert all(array[part].ctypes.data % 64 == 0 for part in parts[1:])
    inner = [part.stop - part.start for part in parts[1:-1]]
    assert all(count <= step and count.bit_count() == 1 for count in inner)
    assert inner == sorted(inner, reverse=True) and len(set(inner) - {step}) <= step.bit_length()


def test_a_function_gets_few_sizes():
    seen = []

    def total(x):
        seen.append(x.shape)
        return x.sum(keepdims=True)

    for size in (1, 7, 4096, 4097, 5000, 8192):
        for part in (np.ones(size, np.float32), np.ones(size + 1, np.float32)[1:]):
            with tiles.on_cpu():
                assert tiles.call(total, part) == size
    assert seen == [(4096,), (8192,)]


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


def test_donated_memory_is_overwritten_tile_by_tile():
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
    monkeypatch.setattr(tiles, "_cpu", lambda: None)
    monkeypatch.setattr(tiles, "_compiled", None)
    np.testing.assert_allclose(fp.interpolate(a, b, 0.25)["w"], expected[0], rtol=1e-3)
    assert same(fp.to_fp32(a)["w"], expected[1]) and fp.diff(a, b) == expected[2]


def test_threads_help_and_nobody_waits_for_work_that_nobody_does():
    def inner(i):
        assert i < 99, "of the work"
        return i + 1

    def outer(i):
        return sum(tiles.in_threads(inner, range(i, i + 9), 1 << 30))

    assert tiles.in_threads(outer, range(50), 1 << 30) == [9 * i + 45 for i in range(50)]
    with pytest.raises(AssertionError, match="of the work"):
        tiles.in_threads(outer, range(1000), 1 << 30)


def test_a_child_without_its_parents_threads_works_alone():
    code = "import os; from flaxmodels.params.host import tiles\n"
    code += "def call(): return tiles.in_threads(lambda i: i, range(99), 1 << 30) == [*range(99)]\n"
    code += "assert call()\nif child := os.fork():\n"
    code += "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    code += "os._exit(0 if call() else 3)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
