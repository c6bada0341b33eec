"""Weights that the libraries quantised are decoded as they decode them, bit for bit (P10)."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _weights import uniform

from flaxmodels.params.formats import open_checkpoint
from flaxmodels.params.formats.source import Source
from flaxmodels.params.quantized.make import quantize
from flaxmodels.params.quantized.packed import PackedTensor
from flaxmodels.params.quantized.qtensor import Form, QTensor
from flaxmodels.params.quantized.readers import read_quantized

GOLDENS = Path(__file__).parents[2] / "goldens" / "quantized"
FILES = {
    name: open_checkpoint(GOLDENS / f"{name}.safetensors")
    for name in ("fp8", "compressed_tensors", "mxfp4")
}
CONFIGS = {name: json.loads(file.metadata["configs"]) for name, file in FILES.items()}
CASES = [(file, case) for file, configs in CONFIGS.items() for case in configs]


def case_of(file: str, case: str) -> tuple[Source, dict, dict[str, np.ndarray]]:
    """Returns the source that a writer made, its quantization_config and what it decodes to."""
    start = f"{case}:"
    tensors = {
        name.removeprefix(start): dataclasses.replace(tensor, name=name.removeprefix(start))
        for name, tensor in FILES[file].tensors.items()
        if name.startswith(start)
    }
    expected = {
        name.removeprefix("decoded:"): tensors.pop(name).read()
        for name in [*tensors]
        if name.startswith("decoded:")
    }
    source = dataclasses.replace(FILES[file], tensors=tensors)
    return source, CONFIGS[file][case], expected


@pytest.mark.parametrize("file, case", CASES)
def test_numbers_are_those_of_the_writer_bit_for_bit(file, case):
    """Compared in the dtype in which the writer decodes: bfloat16 for nvfp4, mxfp4 and mxfp8 of
    compressed-tensors, that of the scales for its other formats, else float32."""
    source, config, expected = case_of(file, case)
    found = read_quantized(source, config)
    for name, numbers in expected.items():
        packed = found[name]
        assert isinstance(packed, PackedTensor) and packed.shape == numbers.shape
        whole = tuple((0, n) for n in packed.stored)
        ours = packed.numbers(whole)
        ours = ours.swapaxes(-1, -2) if packed.form.turned else ours
        assert ours.astype(numbers.dtype).tobytes() == numbers.tobytes()
        assert packed.read().tobytes() == ours.astype(packed.dtype).tobytes()


@pytest.mark.parametrize("file, case", CASES)
def test_parts_are_those_of_the_whole(file, case):
    source, config, expected = case_of(file, case)
    found = read_quantized(source, config)
    for name in expected:
        whole = found[name].read()
        inner = tuple((n // 3, n - n // 4) for n in whole.shape)
        part = whole[tuple(slice(*bound) for bound in inner)]
        assert found[name].read(inner).tobytes() == np.ascontiguousarray(part).tobytes()


@pytest.mark.parametrize("file, case", CASES)
def test_fields_make_a_qtensor_of_the_same_numbers(file, case):
    """On the host all of them; of JAX's arrays, which are compiled, one of each kind of codes."""
    source, config, expected = case_of(file, case)
    found = read_quantized(source, config)
    for name in expected:
        packed = found[name]
        assert isinstance(packed, PackedTensor)
        weight = qtensor(packed)
        assert weight.shape == packed.shape
        np.testing.assert_array_equal(weight.dense(), packed.read())
        if case in COMPILED:
            there = jax.jit(QTensor.dense)(jax.tree.map(jnp.asarray, weight))
            np.testing.assert_array_equal(np.asarray(there), packed.read())


COMPILED = ("block", "fp4_experts", "int3_asymmetric", "nvfp4", "gpt_oss")


def qtensor(packed: PackedTensor) -> QTensor:
    fields = {
        name: qtensor(field) if isinstance(field, PackedTensor) else field.read()
        for name, field in packed.fields.items()
    }
    return QTensor(**fields, form=packed.form)


@pytest.mark.parametrize("file, case", CASES)
def test_what_is_not_quantised_stays_and_scales_of_activations_go(file, case):
    source, config, expected = case_of(file, case)
    found = read_quantized(source, config)
    plain = {name for name in source.tensors if name.endswith("bias") or "lm_head" in name}
    assert found.tensors.keys() == expected.keys() | plain
    assert all(found[name] is source[name] for name in plain)
    assert set(found.passed_over) == {
        x for x in source.tensors if x.endswith(("input_scale", "activation_scale", "scale_ub"))
    }


@pytest.mark.parametrize(
    "case, block", [("fp8_tensor", (-1, -1)), ("fp8_channel", (1, -1)), ("fp8_block", (8, 16))]
)
def test_codes_that_are_made_are_those_of_the_writer(case, block):
    """compressed-tensors' of the same numbers: the scale is the largest of a block / 448, and codes
    are numbers divided by it, as DeepSeek's kernels have it."""
    source, _, _ = case_of("compressed_tensors", case)
    codes, scale = source["a.weight"].read(), source["a.weight_scale"].read()
    made = quantize(uniform(case, codes.shape), Form("float8_e4m3fn", block, np.dtype(np.float32)))
    assert made.data.tobytes() == codes.tobytes()
    assert np.asarray(made.scale).tobytes() == scale.tobytes()
