"""bitsandbytes' weights: read (P13.26), made (P10) and written as it does; what bad files get."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import write_safetensors
from _quantized import cases, value_of

from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.quantized.codes import CODEBOOKS
from flaxmodels.params.quantized.make import INVERSE_127, quantize
from flaxmodels.params.quantized.packed import PackedTensor
from flaxmodels.params.quantized.readers import read_quantized
from flaxmodels.params.quantized.writers import bitsandbytes as writer

CASES = cases("bitsandbytes")
DENSE = {"nf4_rest"}  # 35 numbers a row
STATE = "a.weight.quant_state.bitsandbytes__nf4"


@pytest.fixture(params=CASES)
def case(request):
    return request.param


def read(case) -> Any:
    if case in DENSE:
        with pytest.warns(UserWarning, match="1 weights are loaded as numbers, not packed"):
            return CASES[case].read()["a.weight"]
    return CASES[case].read()["a.weight"]


def test_P13_26_numbers_are_bitsandbytes_own_bit_for_bit(case):
    tensor, decoded = read(case), CASES[case].decoded["a.weight"]
    assert isinstance(tensor, PackedTensor) == (case not in DENSE)
    if case.startswith("int8"):  # files of int8 do not say of which dtype the weight was
        tensor = dataclasses.replace(tensor, dtype=decoded.dtype)
    assert (tensor.shape, tensor.dtype) == (decoded.shape, decoded.dtype)
    assert tensor.read().tobytes() == decoded.tobytes()
    part = tensor.read(((1, 3), (5, 30)))
    assert part.tobytes() == decoded[1:3, 5:30].tobytes()
    if case not in DENSE:
        value = value_of(tensor)
        assert value.dense(decoded.dtype).tobytes() == decoded.tobytes()
        assert (value.form.scale is not None) == (case == "nf4_double_32")


@pytest.mark.parametrize("where", ["host", "program"])
def test_P10_codes_are_bitsandbytes_own_bit_for_bit(case, where):
    tensor, original = read(case), CASES[case].original["a.weight"]
    if case in DENSE | {"nf4_across", "nf4_4096"}:  # blocks that are not made
        return
    if where == "program":  # where XLA has no numbers below the least normal one
        original = np.where(abs(original.astype(np.float32)) < 1e-30, 0, original)
    form, fields = dataclasses.replace(tensor.form, scale=None), tensor.fields
    made = quantize(original, form)
    if where == "program":
        made = jax.jit(lambda x: quantize(x, form))(original)
    rows = [0, 2, 3, 4, 5] if where == "program" else slice(None)
    assert (np.asarray(made.data) == fields["data"].read())[rows].all()
    if "double" not in case:
        assert (np.asarray(made.scale) == fields["scale"].read())[rows].all()


def test_P10_written_as_it_was_read(case):
    if case in DENSE | {"nf4_across", "nf4_4096"}:
        return
    source, value = CASES[case].arrays(), value_of(read(case))
    value = value.with_form(turned=True)
    written = writer.tensors_of("a", value)
    kept = {name: array for name, array in source.items() if "nested" not in name}
    if "double" in case and value.form.scale is None:  # few scales a row: they become numbers
        written.pop(STATE.replace("nf4", value.form.codes))
        written.pop("a.weight.absmax")
        source = {name: kept[name] for name in written}
    assert written.keys() == source.keys()
    for name, array in written.items():
        assert array.tobytes() == source[name].tobytes(), name
        assert array.dtype == source[name].dtype or name == "a.weight"  # of bnb_4bit_quant_storage


def test_P10_config_is_what_transformers_writes():
    for case in ("nf4", "int8", "nf4_double_32"):
        form, config = read(case).form, {**CASES[case].config}
        made = writer.config_of([form], ["lm_head"])
        config |= {"llm_int8_skip_modules": ["lm_head"]}
        config["bnb_4bit_compute_dtype"] = made["bnb_4bit_compute_dtype"]
        assert made == config
    with pytest.raises(ValueError, match="one kind of weights; these are int8, nf4"):
        writer.config_of([read("nf4").form, read("int8").form], [])


@pytest.mark.parametrize(
    ("change", "shape", "problem"),
    [
        ({"codes": "uint4"}, (128, 8), "no uint4 in blocks"),
        ({"block": (1, 16)}, (128, 8), "blocks are of 32, 64, .* these are of .1, 16."),
        ({"block": (1, 64)}, (96, 8), "rows have 96"),
        ({"block": (2, 64)}, (128, 8), "these are of .2, 64."),
        ({"turned": False}, (8, 128), "kernels of linear layers"),
        ({}, (2, 128, 8), "kernels of linear layers"),
        ({"dtype": np.dtype("float64")}, (128, 8), "this one is float64"),
    ],
)
def test_P10_what_it_has_no_layer_for(change, shape, problem):
    form = dataclasses.replace(read("nf4").form, **{"turned": True} | change)
    if len(shape) == 3:
        shape = (*shape[:1], 128, 8)
    with pytest.raises(ValueError, match=problem):
        raise ValueError(writer.misfit(form, shape))


def test_P13_26_other_numbers_are_read_and_not_kept_packed(tmp_path):
    arrays, decoded = CASES["nf4"].arrays(), CASES["nf4"].decoded["a.weight"]
    arrays["a.weight.quant_map"] = arrays["a.weight.quant_map"] * np.float32(2)
    tensor = opened(tmp_path, arrays)["a.weight"]
    assert isinstance(tensor, PackedTensor)
    rows = [0, 2, 3, 4, 5]  # without the one of numbers that are rounded otherwise, near 0
    assert tensor.read()[rows].tobytes() == (2 * decoded)[rows].tobytes()
    with pytest.raises(CheckpointError, match=r"quant_map' does not hold.*pass dequantize=True"):
        tensor.fields["data"].read()


def test_P13_26_int8_has_the_dtype_of_the_other_weights(tmp_path):
    arrays = {**CASES["int8"].arrays(), "b.weight": np.zeros((3, 3), jnp.bfloat16)}
    tensor = opened(tmp_path, arrays, load_in_4bit=False)["a.weight"]
    assert tensor.dtype == jnp.bfloat16 and tensor.form.factor == INVERSE_127


def opened(folder, arrays, **config) -> Any:
    path = write_safetensors(folder / "model.safetensors", arrays)
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True} | config
    return read_quantized(open_checkpoint(path), config)


def without(*names):
    return lambda arrays: [arrays.pop(name) for name in names]


def put(end, array):
    """Changes the array of the layer that is called so."""

    def change(arrays):
        name = f"a.{end}"
        assert name in arrays
        arrays[name] = array(arrays[name]) if callable(array) else array

    return change


def said(**changes):
    """Changes the JSON of a weight."""

    def change(arrays):
        state = json.loads(arrays[STATE].tobytes()) | changes
        arrays[STATE] = text(json.dumps(state))

    return change


def text(value):
    return np.frombuffer(value.encode() if isinstance(value, str) else value, np.uint8)


def bad(end, value, at=(0,)):
    """A number of an array that is not what it should be."""

    def change(array):
        array = array.copy()
        array[at] = value
        return array

    return put(end, change)


BAD_4BIT = {
    "no absmax": (without("a.weight.absmax"), "has no 'a.weight.absmax' beside it"),
    "no quant_map": (without("a.weight.quant_map"), "has no 'a.weight.quant_map' beside it"),
    "no weight": (without("a.weight"), "has no 'a.weight' beside it"),
    "no state": (without(STATE), "no a.weight.quant_state.bitsandbytes__nf4"),
    "half nested": (without("a.weight.nested_absmax"), "has no 'a.weight.nested_absmax' beside"),
    "no nested map": (without("a.weight.nested_quant_map"), "has no 'a.weight.nested_quant_map'"),
    "not nested": (
        without("a.weight.nested_absmax", "a.weight.nested_quant_map"),
        "absmax' has shape .264,. and dtype uint8.*of dtype float32",
    ),
    "state no JSON": (put(STATE[2:], text("{")), "is not JSON"),
    "state no UTF-8": (put(STATE[2:], text(b"\xff\xfe")), "is not JSON"),
    "state NaN": (put(STATE[2:], text('{"nested_offset": NaN}')), "is not JSON: NaN"),
    "state deep": (put(STATE[2:], text("[" * 60000)), "is not JSON"),
    "state long": (put(STATE[2:], text(" " * 70000)), "is 70000 bytes of uint8; expected JSON"),
    "state a list": (put(STATE[2:], text("[1]")), "expected a JSON object"),
    "state twice": (put(STATE[2:], text('{"shape": 1, "shape": 2}')), "appears twice"),
    "of floats": (put(STATE[2:], np.zeros(3, np.float32)), "12 bytes of float32"),
    "type": (said(quant_type="fp4"), "says quant_type 'fp4'; expected nf4 or fp4, as its name"),
    "no type": (said(quant_type=None), "says quant_type 'None'"),
    "blocksize 0": (said(blocksize=0), "says blocksize '0'; expected a number above 0"),
    "blocksize true": (said(blocksize=True), "says blocksize 'True'"),
    "blocksize huge": (said(blocksize=10**400), "says blocksize"),
    "blocksize other": (said(blocksize=64), "8448 numbers in blocks of 64 have 132"),
    "shape": (said(shape=[33, 257]), r"numbers of shape \[33, 257\]"),
    "shape huge": (said(shape=[2**40, 2**40]), "says takes|says take"),
    "shape one": (said(shape=[8448]), "says shape .* expected two sizes above 0"),
    "shape negative": (said(shape=[-33, -256]), "says shape"),
    "shape text": (said(shape="33"), "says shape '33'"),
    "shape 0": (said(shape=[0, 256]), "says shape"),
    "dtype": (said(dtype="int8"), "says dtype 'int8'; expected float32 or float16 or bfloat16"),
    "dtype a list": (said(dtype=["float32"]), "says dtype"),
    "nested blocksize": (said(nested_blocksize=128), "264 scales in blocks of 128 have 3"),
    "offset inf": (
        put(STATE[2:], text('{"quant_type": "nf4", "shape": [33, 256], "dtype": "float16", '
                            '"blocksize": 32, "nested_offset": 1e999}')),
        "says nested_offset 'inf'",
    ),
    "absmax cut": (put("weight.absmax", lambda x: x[:-1]), "have 264"),
    "weight cut": (put("weight", lambda x: x[:-1]), "4223 bytes; the numbers of shape"),
    "map of 8": (put("weight.quant_map", lambda x: x[:8]), "shape .8,. and .*; expected 16"),
    "map of NaN": (bad("weight.quant_map", np.nan), "holds numbers that are not finite"),
    "nested map": (put("weight.nested_quant_map", np.zeros(16, np.float32)), "expected 256 floats"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_4BIT)
def test_P13_26_bad_weights_of_4_bits(name, tmp_path):
    arrays = CASES["nf4_double_32"].arrays()
    change, problem = BAD_4BIT[name]
    change(arrays)
    with pytest.raises(CheckpointError, match=problem) as caught:
        opened(tmp_path, arrays)
    assert str(tmp_path / "model.safetensors") in str(caught.value)
    assert "a.weight" in str(caught.value) and len(str(caught.value)) < 1000


BAD_8BIT = {
    "no weight": (without("a.weight"), "has no 'a.weight' beside it"),
    "of floats": (put("weight", np.zeros((6, 40), np.float32)), "expected int8 .out, in."),
    "flat": (put("weight", lambda x: x.reshape(-1)), r"shape \(240,\) and dtype int8"),
    "scales cut": (put("SCB", lambda x: x[:-1]), "a float for each of the 6 rows"),
    "scales int": (put("SCB", np.ones(6, np.int32)), "dtype int32; expected a float"),
    "col32": (put("weight_format", np.uint8(1)), "weight_format' is not 0.*old GPU kernel"),
    "long format": (put("weight_format", np.zeros(99, np.uint8)), "weight_format' is not 0"),
    "empty format": (put("weight_format", np.zeros(0, np.uint8)), "weight_format' is not 0"),
}


@pytest.mark.parametrize("name", BAD_8BIT)
def test_P13_26_bad_weights_of_8_bits(name, tmp_path):
    arrays = CASES["int8"].arrays()
    change, problem = BAD_8BIT[name]
    change(arrays)
    with pytest.raises(CheckpointError, match=problem) as caught:
        opened(tmp_path, arrays, load_in_4bit=False, load_in_8bit=True)
    assert str(tmp_path / "model.safetensors") in str(caught.value)


def test_P13_26_scales_that_are_no_numbers_are_found_when_they_are_read(tmp_path):
    for name, end, wrong in (("nf4", "weight.absmax", np.nan), ("int8", "SCB", np.inf)):
        arrays = CASES[name].arrays()
        bad(end, wrong)(arrays)
        tensor = opened(tmp_path, arrays, load_in_4bit=False)["a.weight"]
        with pytest.raises(CheckpointError, match=rf"{end}' holds {wrong} at"):
            tensor.read()


def test_P13_26_a_config_of_the_other_bits(tmp_path):
    with pytest.raises(CheckpointError, match="of a weight of 8 bits, and .* says load_in_4bit"):
        opened(tmp_path, CASES["int8"].arrays())
    with pytest.raises(CheckpointError, match="of a weight of 4 bits, and .* says load_in_8bit"):
        opened(tmp_path, CASES["nf4"].arrays(), load_in_8bit=True)


def test_tables_are_bitsandbytes_own():
    arrays = CASES["nf4_double_32"].arrays() | CASES["fp4"].arrays()
    for codes, name in (("dynamic8", "nested_quant_map"), ("fp4", "quant_map")):
        assert np.float32(CODEBOOKS[codes]).tobytes() == arrays[f"a.weight.{name}"].tobytes()
