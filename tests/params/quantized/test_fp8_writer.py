"""FP8 is written as Transformers writes it (P10)."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from flaxmodels.params.checkpoint.sources import source_of
from flaxmodels.params.formats import open_checkpoint
from flaxmodels.params.quantized.make import form_of, quantize
from flaxmodels.params.quantized.packed import PackedTensor
from flaxmodels.params.quantized.qtensor import Form, QTensor
from flaxmodels.params.quantized.readers import read_quantized
from flaxmodels.params.quantized.writers import fp8

FOLDER = Path(__file__).parents[2] / "goldens" / "quantized" / "fp8-llama"
NUMBERS = np.linspace(-1, 1, 16 * 24, dtype=np.float32).reshape(16, 24)


def made(block):
    return quantize(NUMBERS, Form("float8_e4m3fn", block, np.dtype(np.float32), turned=True))


def test_tensors_and_config_are_those_of_transformers():
    """Of the folder that it wrote, and opened when the golden was made: bit for bit."""
    config = json.loads((FOLDER / "config.json").read_text())["quantization_config"]
    stored = open_checkpoint(FOLDER / "model.safetensors")
    packed = read_quantized(stored, config).tensors
    kernels = {
        name.removesuffix(".weight"): QTensor(
            **{key: field.read() for key, field in tensor.fields.items()},
            form=dataclasses.replace(tensor.form, turned=True),
        )
        for name, tensor in packed.items()
        if isinstance(tensor, PackedTensor)
    }
    written = {}
    for module, kernel in kernels.items():
        written |= fp8.tensors_of(module, kernel)
    dense = {name for name, x in packed.items() if not isinstance(x, PackedTensor)}
    assert written.keys() == stored.tensors.keys() - dense
    assert all(x.tobytes() == stored[name].read().tobytes() for name, x in written.items())
    assert fp8.config_of([kernel.form for kernel in kernels.values()], ["lm_head"]) == config


@pytest.mark.parametrize("block", [(8, 8), (-1, -1)])
def test_what_is_written_is_read(block):
    weight = made(block)
    tensors, config = fp8.tensors_of("a", weight), fp8.config_of([weight.form], [])
    found = read_quantized(source_of(tensors), config)["a.weight"].read()
    np.testing.assert_array_equal(found.T, weight.dense())


def test_what_the_format_does_not_hold_is_refused():
    with pytest.raises(ValueError, match='a: FP8 has .* no float8.* of .1, -1.*"float8_block"'):
        fp8.tensors_of("a", made((1, -1)))
    with pytest.raises(ValueError, match="no int8 in blocks"):
        fp8.tensors_of("a", quantize(NUMBERS, form_of("int8", turned=True)))
    with pytest.raises(ValueError, match="a: FP8 is for kernels of linear layers; this is float8"):
        fp8.tensors_of("a", quantize(NUMBERS, form_of("float8_block")))
    with pytest.raises(ValueError, match=r"these are \(4, 8\), \(8, 8\)"):
        fp8.config_of([made((8, 8)).form, made((4, 8)).form], [])


def test_smaller_blocks_at_edges_are_said_to_need_a_gpu():
    with pytest.warns(UserWarning, match=r"blocks of \(16, 16\): those at the edges"):
        fp8.tensors_of("a", made((16, 16)))  # 24 columns


def test_a_weight_within_one_block_is_read_by_all():
    assert fp8.tensors_of("a", made((128, 128))).keys() == {"a.weight", "a.weight_scale_inv"}
