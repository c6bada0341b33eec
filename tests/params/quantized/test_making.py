"""Weights that are quantised while they are read, piece by piece."""

import jax.numpy as jnp
import numpy as np
import pytest

from flaxmodels.params.formats.source import ArrayTensor
from flaxmodels.params.quantized.make import form_of, quantize
from flaxmodels.params.quantized.making import quantized


@pytest.mark.parametrize("scheme", ["nf4", "fp4", "float8_block"])
def test_many_numbers_are_quantised_as_few_are(scheme):
    """XLA quantises large pieces, in runs of blocks of one shape; NumPy small ones."""
    numbers = np.random.default_rng(0).standard_normal((1100, 576), np.float32)
    numbers[3, :64] = 0
    numbers = numbers.astype(jnp.bfloat16)
    form = form_of(scheme, "bfloat16")
    tensor = quantized(ArrayTensor("weight", numbers.shape, numbers.dtype, (), numbers), form)
    expected = quantize(numbers, form)
    for name, field in tensor.fields.items():
        found, wanted = field.read(), getattr(expected, name)
        np.testing.assert_array_equal(found.view(np.uint8), wanted.view(np.uint8))
