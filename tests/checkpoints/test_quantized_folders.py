"""Folders that the libraries of quantised weights wrote, by `from_pretrained` (P13.26)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _quantized import FOLDERS
from _turns import in_turn

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.params import CheckpointError, open_checkpoint

PACKED, DENSE = {}, {"dequantize": True}
CODES = {  # those of the weights that stay packed
    "bitsandbytes-nf4-llama": {"nf4"},
    "bitsandbytes-int8-llama": {"int8"},
    "bitsandbytes-nf4-gpt2": {"nf4"},
    "gptq-llama": {"uint4"},
    "gptq-dynamic-llama": {"uint2", "uint4", "uint8"},
    "awq-llama": {"uint4"},
}


def logits_of(model, params, ids):
    return jax.jit(lambda params: model.apply({"params": params}, jnp.asarray(ids)).logits)(params)


@in_turn("folder", [*CODES], "how", [PACKED, DENSE], ids=(None, ["packed", "numbers"]))
def test_logits_are_those_of_the_numbers_p13_26(folder, how):
    """The reference's, of the weights that it dequantises."""
    golden = open_checkpoint(FOLDERS / folder / "golden.safetensors")
    ids, expected = golden["input_ids"].read(), golden["logits"].read()
    model, params = fm.AutoModelForCausalLM.from_pretrained(
        FOLDERS / folder, param_dtype="float32", **how
    )
    leaves = fp.flatten(params)
    quantised = {path: x for path, x in leaves.items() if isinstance(x, fp.QTensor)}
    assert {x.form.codes for x in quantised.values()} == (set() if how else CODES[folder])
    assert {str(x.dtype) for x in leaves.values()} == {"float32"}
    is_rounded = how and not folder.startswith("bits")  # to float16, the dtype of the scales
    close = 5e-3 if is_rounded else 1e-4
    np.testing.assert_allclose(logits_of(model, params, ids), expected, atol=close)
    if how == PACKED:
        assert ("lm_head/kernel" in quantised) == (folder == "gptq-dynamic-llama")
        assert not any(path.endswith("v_proj/kernel") for path in quantised) or "dyn" not in folder


def test_layers_that_differ_are_not_stacked_packed_p13_26():
    """The first MLP of this folder is not quantised."""
    with pytest.raises(CheckpointError, match="quantised differently.*scan_layers=False, or"):
        fm.LlamaForCausalLM.from_pretrained(FOLDERS / "awq-llama", scan_layers=True)
    model, params = fm.LlamaForCausalLM.from_pretrained(
        FOLDERS / "bitsandbytes-nf4-llama", scan_layers=True
    )
    kernel = fp.flatten(params)["model/layers/mlp/up_proj/kernel"]
    assert isinstance(kernel, fp.QTensor) and kernel.shape == (2, 64, 64)
    assert fp.num_parameters(params) == fp.num_parameters(model.abstract_params())
