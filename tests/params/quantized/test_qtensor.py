"""Quantised weights as values: what they stand for, as leaves of JAX, in products and lookups."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _turns import in_turn

from flaxmodels import blocks
from flaxmodels import params as fp
from flaxmodels.params.quantized.codes import codes_of, decode, pack, unpack
from flaxmodels.params.quantized.make import SCHEMES, form_of, quantize
from flaxmodels.params.quantized.qtensor import Form, QTensor, check

RANDOM = np.random.default_rng(0)
ARRAY = RANDOM.standard_normal((6, 128), np.float32)
contract = jax.jit(blocks.contract, static_argnums=2)
rows = jax.jit(blocks.rows, static_argnums=2)


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_of_any_width_come_back(bits):
    codes = RANDOM.integers(0, 1 << bits, (3, 5, 48)).astype(np.uint8)
    for axis in (-1, -2):
        turned = codes if axis == -1 else codes.swapaxes(-1, -2)
        packed = pack(turned, bits, axis)
        assert packed.shape[axis] == codes_of(f"uint{bits}").packed(48) == 48 * bits // 8
        assert np.array_equal(unpack(packed, bits, axis), turned)
    stream = int.from_bytes(pack(codes, bits, -1)[0, 0].tobytes(), "little")
    assert [stream >> i * bits & (1 << bits) - 1 for i in range(48)] == codes[0, 0].tolist()


def test_signed_codes_are_complements_of_two():
    assert decode(np.uint8([0, 1, 7, 8, 15]), "int4").tolist() == [0, 1, 7, -8, -1]
    assert decode(np.int8([-128, 5]), "int8").tolist() == [-128, 5]
    with pytest.raises(ValueError, match="unknown codes 'int9'; known: int2 to int8"):
        codes_of("int9")


ERRORS = {  # of the largest number of a block, and of the nearest number of the codes
    "int8": 1 / 240,  # and of float16, which comes first
    "int4": 1 / 14,
    "nf4": 0.16,
    "fp4": 0.17,
    "float8": 1 / 28,
    "float8_block": 1 / 28,
    "float8_tensor": 1 / 28,
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_P10_what_is_made_is_near_and_the_same_in_numpy_and_jax(scheme):
    made = quantize(ARRAY, form_of(scheme))
    check(made, "x")
    there = jax.jit(quantize, static_argnums=1)(ARRAY, form_of(scheme))
    for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(there), strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, np.asarray(other))
    assert made.shape == ARRAY.shape and made.dtype == np.float32 and made.size == ARRAY.size
    error = np.abs(made.dense() - ARRAY).max() / np.abs(ARRAY).max()
    assert 0 < error <= ERRORS[scheme]
    assert np.allclose(jnp.asarray(jax.jit(QTensor.dense)(there)), made.dense(), rtol=1e-6)
    assert made.nbytes == sum(x.nbytes for x in jax.tree.leaves(made)) < ARRAY.nbytes / 2


def test_zeros_are_zeros():
    for scheme in SCHEMES:
        assert np.array_equal(
            quantize(np.zeros((2, 64), np.float32), form_of(scheme)).dense(), np.zeros((2, 64))
        )


def test_every_field_takes_part():
    scale = QTensor(
        np.uint8([[3, 5]]), np.float32([[0.5, 0.25]]), form=Form("uint8", (1, 1), np.dtype("f"))
    )
    made = QTensor(
        pack(np.uint8([[1, 2, 3, 4, 5, 6, 7, 8]]), 4, -1),
        scale,
        zero=np.uint8([[1, 2]]),
        offset=np.float32([[10, 20]]),
        perm=np.int32([7, 6, 5, 4, 3, 2, 1, 0]),
        form=Form("uint4", (1, 4), np.dtype(np.float32), turned=True, scale=scale.form),
    )
    values = np.concatenate([(np.arange(1, 5) - 1) * 1.5 - 10, (np.arange(5, 9) - 2) * 1.25 - 20])
    assert np.array_equal(made.dense(), values[::-1, None])
    x = RANDOM.standard_normal((3, 8), np.float32)
    assert np.allclose(contract(x, made, 0), x @ made.dense(), atol=1e-4)


@in_turn("scheme", [*SCHEMES], "count", [1, 3, 20])
def test_products_are_those_of_the_array(scheme, count):
    made = quantize(ARRAY, form_of(scheme, turned=True))
    x = RANDOM.standard_normal((2, count, 128), np.float32)
    found = contract(x, made, 0)
    assert found.shape == (2, count, 6)
    assert np.allclose(found, x @ made.dense(), atol=2e-5)
    half = contract(x.astype(jnp.bfloat16), made, 0)
    assert half.dtype == jnp.bfloat16 and np.allclose(half, found, atol=0.3)


def test_gradients_go_through_to_x_alone():
    made = quantize(ARRAY, form_of("nf4", turned=True))
    x = np.ones((1, 128), np.float32)
    found = jax.jit(jax.grad(lambda x: blocks.contract(x, made, 0).sum()))(x)
    assert np.allclose(found[0], made.dense().sum(1), atol=1e-5)


def test_activations_of_8_bits():
    form = dataclasses.replace(form_of("int8", turned=True), activations="int8")
    made = quantize(ARRAY, form)
    x = RANDOM.standard_normal((4, 128), np.float32)
    x[2] = 0
    found, right = np.asarray(contract(x, made, 0)), x @ made.dense()
    assert 0 < np.abs(found - right).max() < 0.02 * np.abs(right).max() and not found[2].any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rows_of_a_table(scheme):
    table = quantize(ARRAY, form_of(scheme))
    ids = np.array([[0, 5], [-1, 3], [6, -7]])
    found = rows(table, ids, jnp.dtype("float32"))
    assert np.array_equal(found[:2], table.dense()[ids[:2]]) and np.isnan(found[2]).all()
    ones = np.ones((1, 128), np.float32)
    assert np.allclose(contract(ones, table, 1), table.dense().sum(1), atol=1e-4)


class OnDisk:
    """What is no array, such as a leaf that stays in its file."""

    shape, ndim, dtype = (8, 8), 2, np.dtype(np.float32)


def test_arrays_that_do_not_fit_are_refused():
    made = quantize(ARRAY, form_of("nf4"))
    with pytest.raises(ValueError, match=r"k: scale has shape \(6, 1\).*expected \(6, 2\)"):
        check(dataclasses.replace(made, scale=made.scale[:, :1]), "k")
    with pytest.raises(ValueError, match="k: data has dtype int8, and nf4 is stored as uint8"):
        check(dataclasses.replace(made, data=made.data.astype(np.int8)), "k")
    with pytest.raises(ValueError, match="rows of a multiple of 2 numbers"):
        quantize(ARRAY[:, :3], form_of("nf4"))
    with pytest.raises(ValueError, match="int8 is multiplied|activations is 'int8' of nf4 in blo"):
        made.with_form(activations="int8")
    for scheme in ("int3", None, ["int8"]):
        with pytest.raises(ValueError, match=f"unknown scheme {re.escape(repr(scheme))}; known: i"):
            fp.quantize({"kernel": ARRAY}, scheme)
    for params, mask in (
        ({"bias": ARRAY}, None),
        ({"kernel": ARRAY}, False),
    ):
        with pytest.raises(ValueError, match="nothing to quantise: "):
            fp.quantize(params, "int8", mask)
    packed = fp.quantize({"kernel": ARRAY}, "int8")
    with pytest.raises(ValueError, match="kernel is held as int8; expected an array"):
        fp.quantize(packed, "int8", True)
    adapted = fp.lora_init(jax.random.key(0), {"a": {"kernel": ARRAY}}, {"target_modules": ["a"]})
    for mask in (None, True):
        with pytest.raises(ValueError, match="a/kernel is held as .*LoRA; .* before adapters"):
            fp.quantize(adapted | {"b": {"kernel": ARRAY}}, "int8", mask)
    with pytest.raises(ValueError, match="unknown dtype 'int32'"):
        fp.dequantize(packed, "int32")
    with pytest.raises(TypeError, match="held as int8; its dense"):
        np.asarray(packed["kernel"])
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        packed["kernel"].astype("int8")
    with pytest.raises(ValueError, match="block is .0, 4.; expected two numbers"):
        Form("int8", (0, 4), np.dtype(np.float32))
    deleted = jnp.ones((8, 8))
    deleted.delete()
    for leaf, said in ((1.5, "is a float"), (OnDisk(), "is a OnDisk"), (deleted, "was deleted")):
        with pytest.raises(ValueError, match=f"kernel {said}"):
            fp.quantize({"kernel": leaf}, "int8", True)
    for shape in ((8, 0), (0, 8), (8,), ()):
        with pytest.raises(ValueError, match="kernel: .*; leave it out by a mask"):
            fp.quantize({"kernel": np.zeros(shape, np.float32)}, "int8", True)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_P10_what_no_code_stands_for_is_refused(scheme, number):
    odd = ARRAY.copy()
    odd[3, 7] = number
    for array in (odd, jnp.asarray(odd)):
        with pytest.raises(ValueError, match="a/kernel holds NaN or infinity"):
            fp.quantize({"a": {"kernel": array}}, scheme, True)
    with pytest.raises(ValueError, match="a/kernel: nf4 holds rows.*leave it out by a mask"):
        fp.quantize({"a": {"kernel": ARRAY[:3]}}, "nf4")
