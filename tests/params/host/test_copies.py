"""Copies that transpose and cast, against NumPy's own and XLA's casts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import quick, random_array, same
from hypothesis import given
from hypothesis import strategies as st

from flaxmodels.params.host.copies import TILE_ROWS, copy, empty_bytes

DTYPES = ["float32", "bfloat16", "float16", "float8_e4m3fn", "int8", "float64", "complex64"]
DTYPES += ["complex128", "bool", "int4"]


def copied(source, dtype=None, gap=0):
    """A copy of `source`, within a larger array whose other elements must stay."""
    wide = np.zeros((*source.shape[:-1], source.shape[-1] + 2 * gap), dtype or source.dtype)
    target = wide[..., gap : gap + source.shape[-1]]
    copy(source, target)
    if gap:
        assert not wide[..., :gap].any() and not wide[..., -gap:].any()
    return target


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(300, 2 * TILE_ROWS + 7), (1, 5), (5, 1), (TILE_ROWS, 3)])
def test_transposes_every_dtype(dtype, shape):
    source = random_array(0, shape[::-1], dtype).T
    assert same(copied(source, gap=3), np.array(source))


@quick
@given(st.data())
def test_any_order_of_axes(data):
    shape = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    order = data.draw(st.permutations(range(len(shape))))
    source = random_array(0, shape, "bfloat16").transpose(order)
    source = source[tuple(slice(None, None, data.draw(st.sampled_from([1, 2]))) for _ in shape)]
    assert same(copied(source, gap=1), np.array(source))


EDGES = [0.0, -0.0, 1.0, 1e-8, 6e-8, 1e-40, 65504.0, 65519.9, 65520.0, 1e30, 3.4e38, 447.9, 465.0]
EDGES += [np.inf, -np.inf, np.nan, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 2**-25, 2**-133]


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("transposed", [False, True])
def test_casts_as_xla_does(stored, dtype, transposed):
    with np.errstate(over="ignore"):
        source = np.array([EDGES, EDGES[::-1]]).astype(stored)
    source = np.asfortranarray(source) if transposed else source
    expected = np.asarray(jax.lax.convert_element_type(jnp.asarray(source), dtype))
    assert np.array_equal(copied(source, dtype), expected, equal_nan=True)


def test_bytes_lie_on_a_cache_line():
    for count in (1, 1000, 1 << 20):
        memory = empty_bytes(count)
        assert memory.nbytes == count and memory.ctypes.data % 64 == 0
