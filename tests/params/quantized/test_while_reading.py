"""Weights that are quantised while they are read, piece by piece."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from _quantized import cases, value_of

from flaxmodels.params import CheckpointError
from flaxmodels.params.formats.source import ArrayTensor
from flaxmodels.params.quantized.codes import CODEBOOKS
from flaxmodels.params.quantized.make import form_of, quantize
from flaxmodels.params.quantized.while_reading import quantized
from flaxmodels.params.quantized.writers import bitsandbytes as writer

TWICE = cases("bitsandbytes")["nf4_double_32"]


def twice() -> Any:
    return TWICE.read()["a.weight"]


def made(numbers, form) -> Any:
    tensor = ArrayTensor("a.weight", numbers.shape, numbers.dtype, array=numbers)
    return quantized(tensor, dataclasses.replace(form, dtype=numbers.dtype))


@pytest.mark.parametrize(
    ("scheme", "block"), [("nf4", 64), ("nf4", 9), ("fp4", 64), ("float8_block", 0)]
)
def test_many_numbers_are_quantised_as_few_are(scheme, block):
    """XLA quantises large pieces, in runs of blocks of one shape; NumPy small ones."""
    numbers = np.random.default_rng(0).standard_normal((1100, 576), np.float32)
    numbers[3, :64] = 0
    numbers = numbers.astype(jnp.bfloat16)
    form = form_of(scheme)
    form = dataclasses.replace(form, block=(1, block)) if block else form
    expected = quantize(numbers, form)
    for name, field in made(numbers, form).fields.items():
        found, wanted = field.read(), getattr(expected, name)
        np.testing.assert_array_equal(found.view(np.uint8), wanted.view(np.uint8))
    numbers[-1, -1] = np.nan
    with pytest.raises(CheckpointError, match="'a.weight' holds NaN or infinity"):
        made(numbers, form).fields["data"].read()


def test_P10_scales_are_quantised_as_bitsandbytes_does():
    original, read = TWICE.original["a.weight"], twice()
    tensor = made(original, read.form)
    found: Any
    expected: Any
    found, expected = value_of(tensor), value_of(read)
    assert found.form == expected.form
    np.testing.assert_array_equal(found.data, expected.data)
    for name in ("scale", "offset"):
        np.testing.assert_array_equal(*(getattr(x.scale, name) for x in (found, expected)))
    # Its CPU kernel looks codes up by 16 bits, and so takes the farther of two now and then.
    table = np.asarray(CODEBOOKS["dynamic8"], np.float32)
    own, theirs = (x.scale.data.astype(int) for x in (found, expected))
    assert (own != theirs).mean() < 0.01 and abs(own - theirs).max() <= 1
    exact = quantize(original, dataclasses.replace(read.form, scale=None)).scale
    inner = np.repeat(found.scale.scale, found.scale.form.block[1], -1)
    normal = (exact + found.scale.offset[0, 0]) / inner
    assert (abs(table[own] - normal) <= abs(table[theirs] - normal) + 1e-6).all()


def test_P10_scales_that_are_quantised_are_written_as_bitsandbytes_has_them():
    original, read = TWICE.original["a.weight"], twice()
    written = writer.tensors_of("a", value_of(made(original, read.form)).with_form(turned=True))
    arrays = TWICE.arrays()
    assert written.keys() == arrays.keys()
    for name in written.keys() - {"a.weight.absmax"}:
        assert written[name].tobytes() == arrays[name].tobytes(), name


def test_parts_of_scales_are_those_of_the_whole():
    numbers = np.random.default_rng(1).standard_normal((48, 24 * 32), np.float32)
    form = dataclasses.replace(twice().form, block=(1, 32))
    scale = made(numbers, form).fields["scale"]
    assert scale.form.block == (1, 8)
    whole = scale.read()
    np.testing.assert_array_equal(scale.read(((3, 40), (8, 16))), whole[3:40, 8:16])
    exact = np.asarray(quantize(numbers, dataclasses.replace(form, scale=None)).scale)
    np.testing.assert_allclose(whole, exact, atol=0.03 * exact.max())
