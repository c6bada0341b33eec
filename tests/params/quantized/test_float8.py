"""8-bit floats are decoded bit for bit, each of them."""

import ml_dtypes
import numpy as np
import pytest

from flaxmodels.params.quantized.codes import codes_of, decode


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"])
def test_each_code_is_its_number(name):
    codes = np.arange(256, dtype=np.uint8).view(codes_of(name).stored)
    expected = codes.astype(np.float32)
    finite = np.isfinite(expected)
    assert decode(codes[finite], name).tobytes() == expected[finite].tobytes()
    np.testing.assert_array_equal(decode(codes, name), expected)
    rows = codes[:120].reshape(2, 60)[:, ::2]
    assert decode(rows, name).tobytes() == rows.astype(np.float32).tobytes()
    assert decode(np.zeros((0, 4), ml_dtypes.float8_e4m3fn), "float8_e4m3fn").shape == (0, 4)
