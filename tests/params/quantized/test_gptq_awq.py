"""GPTQ's and AWQ's weights, read as the libraries that write them decode them (P13.26)."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from _files import write_safetensors
from _quantized import cases, mutated, value_of

from flaxmodels.params import CheckpointError, open_checkpoint
from flaxmodels.params.checkpoint.sources import source_of
from flaxmodels.params.quantized.packed import PackedTensor
from flaxmodels.params.quantized.readers import read_quantized

CASES = {f"{name}-{case}": x for name in ("gptq", "awq") for case, x in cases(name).items()}


@pytest.mark.parametrize("name", CASES)
def test_P13_26_numbers_are_the_writers_own_bit_for_bit(name):
    case = CASES[name]
    tensor, decoded = case.read()["a.weight"], case.decoded["a.weight"]
    assert isinstance(tensor, PackedTensor) and case.read().tensors.keys() == {"a.weight"}
    assert (tensor.shape, tensor.dtype) == (decoded.shape, np.float16)  # that of the scales
    assert ("perm" in tensor.fields) == case.config.get("desc_act", False)
    exact = dataclasses.replace(tensor, dtype=decoded.dtype)
    assert exact.read().tobytes() == decoded.tobytes()
    assert exact.read(((3, 8), (2, 21))).tobytes() == decoded[3:8, 2:21].tobytes()
    assert value_of(tensor).dense(np.float32).tobytes() == decoded.tobytes()
    for field in tensor.fields.values():  # what is between bounds, whatever these are
        bounds = tuple((size // 3, size // 3 + max(1, size // 2)) for size in field.shape)
        part = field.read()[tuple(slice(*bound) for bound in bounds)]
        assert field.read(bounds).tobytes() == part.tobytes()


def opened(folder, arrays, config) -> Any:
    path = write_safetensors(folder / "model.safetensors", arrays)
    return read_quantized(open_checkpoint(path), config)


def test_P13_26_dynamic_gives_modules_their_own_bits(tmp_path):
    """Patterns say which modules have other bits; their tensors say it too."""
    arrays, config = {}, {**CASES["gptq-w4"].config}
    for name, bits in (("w4", 4), ("w8", 8), ("w2", 2)):
        arrays |= {f"w{bits}{k[1:]}": x for k, x in CASES[f"gptq-{name}"].arrays().items()}
    arrays["dense.weight"] = np.ones((2, 2), np.float16)
    config["dynamic"] = {
        "-:dense": {},
        "+:w8": {"bits": 8},
        ".*2$": {"bits": 2, "desc_act": False},
    }
    source = opened(tmp_path, arrays, config)
    assert [source[f"w{bits}.weight"].form.codes for bits in (2, 4, 8)] == [
        "uint2",
        "uint4",
        "uint8",
    ]
    assert type(source["dense.weight"]).__name__ == "Tensor"
    for bits in (2, 4, 8):
        decoded = CASES[f"gptq-w{bits}"].decoded["a.weight"]
        value = value_of(source[f"w{bits}.weight"]).dense(np.float32)
        assert value.tobytes() == decoded.tobytes()


def test_P13_26_gptq_without_g_idx(tmp_path):
    case = CASES["gptq-w4"]
    arrays = {k: x for k, x in case.arrays().items() if "g_idx" not in k}
    tensor = opened(tmp_path, arrays, case.config)["a.weight"]
    assert value_of(tensor).dense(np.float32).tobytes() == case.decoded["a.weight"].tobytes()


def without(end):
    return lambda arrays, config: arrays.pop(f"a.{end}")


def put(end, array):
    def change(arrays, config):
        arrays[f"a.{end}"] = array(arrays[f"a.{end}"]) if callable(array) else array

    return change


def said(**changes):
    return lambda arrays, config: config.update(changes)


def at(end, value):
    def change(arrays, config):
        array = arrays[f"a.{end}"].copy()
        array.flat[5] = value
        arrays[f"a.{end}"] = array

    return change


NONE_FITS = r"none of \(bits, group_size\)"
# what is found when the file is opened, of GPTQ with an order of its own
BAD_GPTQ = {
    "no zeros": (without("qzeros"), "has no 'a.qzeros' beside it"),
    "no scales": (without("scales"), "has no 'a.scales' beside it"),
    "no order": (without("g_idx"), "has no 'a.g_idx' beside it"),
    "no codes": (without("qweight"), "no tensor is stored so: .* gptq or awq"),
    "weight too": (put("weight", np.ones((16, 48), np.float16)), "beside 'a.qweight': which"),
    "bits": (said(bits=8), rf"{NONE_FITS} \(8, 16\) fits: correct bits, group_size or dynamic"),
    "bits 5": (said(bits=5), "bits is '5'; expected 2, 3, 4 or 8"),
    "bits text": (said(bits="4"), "bits is '4'; expected"),
    "bits true": (said(bits=True), "bits is 'True'; expected"),
    "no bits": (said(bits=None), "bits is 'None'; expected"),
    "group size": (said(group_size=32), rf"{NONE_FITS} \(4, 32\) fits"),
    "group size 0": (said(group_size=0), "group_size is '0'"),
    "group size huge": (said(group_size=10**30), "expected a whole number from -1 to"),
    "group size text": (said(group_size="16"), "group_size is '16'"),
    "gptq_p": (said(checkpoint_format="gptq_p"), "checkpoint_format 'gptq_p' is not read"),
    "marlin": (said(is_marlin_format=True), "checkpoint_format 'marlin' is not read"),
    "marlin too": (said(checkpoint_format=["marlin"]), "checkpoint_format .* is not read"),
    "pack_dtype": (said(pack_dtype="int16"), "pack_dtype 'int16' is not read; expected int32"),
    "dynamic a list": (said(dynamic=[1]), "dynamic is '.1.'; expected .pattern: overrides."),
    "dynamic bits": (said(dynamic={"x": {"bits": 6}}), "bits is '6'"),
    "dynamic values": (said(dynamic={"x": 4}), "expected .pattern: overrides."),
    "words of int16": (put("qweight", lambda x: x.view(np.int16)), "dtype int16; expected int32"),
    "words flat": (put("qweight", lambda x: x.reshape(-1)), "expected int32 of 2 axes"),
    "scales int": (put("scales", lambda x: x.view(np.int16)), "int16; expected floating"),
    "order of floats": (put("g_idx", np.ones(48, np.float32)), "float32; expected integer"),
    "rows cut": (put("qweight", lambda x: x[:-1]), NONE_FITS),
    "columns cut": (put("qweight", lambda x: x[:, :-1]), NONE_FITS),
    "zeros cut": (put("qzeros", lambda x: x[:, :-1]), NONE_FITS),
    "scales cut": (put("scales", lambda x: x[:-1]), NONE_FITS),
    "order cut": (put("g_idx", lambda x: x[:-1]), NONE_FITS),
    "of AWQ": (lambda a, c: a.update(CASES["awq-w4"].arrays()), "or quant_method if this is AWQ's"),
}  # fmt: skip
# what is found when the weight is read
WRONG_GPTQ = {
    "order past": (at("g_idx", 3), "a.g_idx' has groups 0 to 3; there are scales of 3"),
    "order negative": (at("g_idx", -1), "has groups -1 to 2"),
    "order huge": (at("g_idx", 2**31 - 1), "to 2147483647; there are"),
    "one group": (put("g_idx", np.zeros(48, np.int32)), r"groups of \[48  0  0\] numbers"),
    "not in order": (said(desc_act=False), 'says desc_act false: set "desc_act": true'),
    "scale NaN": (at("scales", np.nan), "a.scales' holds nan at"),
    "scale inf": (at("scales", np.inf), "a.scales' holds inf at"),
    "scale 0": (at("scales", 0), "holds 0.0 at .* a scale is a finite number other than 0"),
}  # fmt: skip
BAD_AWQ = {
    "no zeros": (without("qzeros"), "has no 'a.qzeros' beside it"),
    "no scales": (without("scales"), "has no 'a.scales' beside it"),
    "weight too": (put("weight", np.ones((32, 32), np.float16)), "beside 'a.qweight': which"),
    "gemv": (said(version="gemv"), "version 'gemv' is not read; expected gemm"),
    "gemv_fast": (said(version="GEMV_FAST"), "version 'GEMV_FAST' is not read"),
    "llm-awq": (said(backend="llm-awq"), "version 'llm-awq' is not read"),
    "bits": (said(bits=8), "has bits '8'; expected 4"),
    "group size": (said(group_size=8), r"in groups of 8, expected qzeros of \(4, 4\)"),
    "group size text": (said(group_size=[]), "group_size is"),
    "zeros cut": (put("qzeros", lambda x: x[:-1]), r"expected qzeros of \(2, 4\)"),
    "scales flat": (put("scales", lambda x: x.reshape(-1)), "expected floating of 2 axes"),
    "words of int64": (put("qweight", lambda x: x.astype(np.int64)), "int64; expected int32"),
    "of GPTQ": (lambda a, c: a.update(CASES["gptq-w4_v2"].arrays()), "if this is GPTQ"),
    "scale NaN": (at("scales", np.nan), "a.scales' holds nan at"),
    "scale 0": (at("scales", 0), "other than 0"),
}  # fmt: skip
BAD = {
    f"{of}: {name}": (case, *how)
    for of, case, table in (
        ("gptq", "gptq-w4_act", BAD_GPTQ),
        ("gptq", "gptq-w4_act", WRONG_GPTQ),
        ("awq", "awq-w4", BAD_AWQ),
    )
    for name, how in table.items()
}


@pytest.mark.parametrize("name", BAD)
def test_P13_26_bad_weights(name, tmp_path):
    case, change, problem = BAD[name]
    arrays, config = CASES[case].arrays(), {**CASES[case].config}
    change(arrays, config)
    with pytest.raises(CheckpointError, match=problem) as caught:
        tensor = opened(tmp_path, arrays, config)["a.weight"]
        assert name.partition(": ")[2] in WRONG_GPTQ
        tensor.read()
    assert str(tmp_path / "model.safetensors") in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.filterwarnings("ignore:.*loaded as numbers, not packed")
def test_P13_26_whatever_is_wrong_is_an_error_of_checkpoints():
    """What is read all the same has the shape that it says."""
    rng, among = np.random.default_rng(0), [*CASES.values(), *cases("bitsandbytes").values()]
    refused = 0
    for _ in range(600):
        arrays, config = mutated(among[rng.integers(len(among))], rng)
        try:
            for tensor in read_quantized(source_of(arrays), config).tensors.values():
                assert tensor.read().shape == tensor.shape
        except CheckpointError:
            refused += 1
    assert 300 < refused < 600
