"""Models in the formats of other libraries: loaded packed and decoded (P13.26, P10)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import applied
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.params.quantized.qtensor import QTensor

GOLDENS = Path(__file__).parents[1] / "goldens" / "quantized"
# {folder: the dtype in which its library decodes}
FOLDERS = {"fp8-llama": jnp.float32, "compressed-tensors-llama": jnp.bfloat16}


@pytest.mark.parametrize("folder", FOLDERS)
def test_logits_are_those_of_the_library_that_quantised(folder):
    golden = load_file(GOLDENS / folder / "golden.safetensors")

    def logits(params, model):
        out = applied(model, fp.cast(params, jnp.float32), golden["input_ids"])
        return np.asarray(out.logits)

    load = fm.LlamaForCausalLM.from_pretrained
    model, params = load(GOLDENS / folder, dequantize=True, param_dtype=FOLDERS[folder])
    assert not any(isinstance(x, QTensor) for x in fp.flatten(params).values())
    assert "quantization_config" not in model.config.to_dict()
    np.testing.assert_allclose(logits(params, model), golden["logits"], atol=1e-5)
    model, packed = load(GOLDENS / folder)
    _, decoded = load(GOLDENS / folder, dequantize=True, param_dtype="float32")
    dense = fp.flatten(decoded)
    kept = {path: x for path, x in fp.flatten(packed).items() if isinstance(x, QTensor)}
    assert kept.keys() == {path for path in dense if path.endswith("_proj/kernel")}
    for path, weight in kept.items():
        host = jax.tree.map(np.asarray, weight)
        np.testing.assert_array_equal(host.dense(np.float32), np.asarray(dense[path]))
    if FOLDERS[folder] == jnp.float32:  # which packed weights are computed in
        np.testing.assert_allclose(logits(packed, model), golden["logits"], atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_fp8_is_saved_as_transformers_wrote_it(scan, tmp_path):
    """Bit for bit, a folder that Transformers opens."""
    folder = GOLDENS / "fp8-llama"
    model, params = fm.LlamaForCausalLM.from_pretrained(folder, scan_layers=scan)
    model.save_pretrained(params, tmp_path, quant_method="fp8")
    theirs, ours = fp.open_checkpoint(folder), fp.open_checkpoint(tmp_path)
    assert theirs.tensors.keys() == ours.tensors.keys()
    for name, tensor in theirs.tensors.items():
        assert tensor.read().tobytes() == ours[name].read().tobytes(), name
    configs = [json.loads((path / "config.json").read_text()) for path in (folder, tmp_path)]
    assert configs[0]["quantization_config"] == configs[1]["quantization_config"]
