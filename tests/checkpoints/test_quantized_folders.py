"""Folders that the libraries of quantised weights wrote: read (P13.26), and written (P10)."""

import json

import jax
import numpy as np
import pytest
from _drawn import applied, params_of
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


@in_turn("folder", [*CODES], "how", [PACKED, DENSE], ids=(None, ["packed", "numbers"]))
def test_P13_26_logits_are_those_of_the_numbers(folder, how):
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
    np.testing.assert_allclose(applied(model, params, ids).logits, expected, atol=1e-4)
    if how == PACKED:
        assert ("lm_head/kernel" in quantised) == (folder == "gptq-dynamic-llama")
        assert not any(path.endswith("v_proj/kernel") for path in quantised) or "dyn" not in folder


def test_P13_26_layers_that_differ_are_not_stacked_packed():
    """The first MLP of this folder is not quantised."""
    with pytest.raises(CheckpointError, match="quantised differently.*scan_layers=False, or"):
        fm.LlamaForCausalLM.from_pretrained(FOLDERS / "awq-llama", scan_layers=True)
    model, params = fm.LlamaForCausalLM.from_pretrained(
        FOLDERS / "bitsandbytes-nf4-llama", scan_layers=True
    )
    kernel = fp.flatten(params)["model/layers/mlp/up_proj/kernel"]
    assert isinstance(kernel, fp.QTensor) and kernel.shape == (2, 64, 64)
    assert fp.num_parameters(params) == fp.num_parameters(model.abstract_params())


@in_turn("folder", ["bitsandbytes-int8-llama", "bitsandbytes-nf4-gpt2"], "scan", [False, True])
def test_P10_saved_as_transformers_wrote_it(folder, scan, tmp_path):
    """Bit for bit; Transformers opens such a folder, and has the golden's logits."""
    model, params = fm.AutoModelForCausalLM.from_pretrained(FOLDERS / folder, scan_layers=scan)
    model.save_pretrained(params, tmp_path, quant_method="bitsandbytes")
    theirs, ours = open_checkpoint(FOLDERS / folder), open_checkpoint(tmp_path)
    assert theirs.tensors.keys() == ours.tensors.keys()
    for name, tensor in theirs.tensors.items():
        one, other = tensor.read(), ours[name].read()
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes(), name
    configs = [
        json.loads((path / "config.json").read_text())["quantization_config"]
        for path in (FOLDERS / folder, tmp_path)
    ]
    assert configs[1].pop("llm_int8_skip_modules") == ["lm_head"]  # tied in GPT-2, and its default
    assert configs[0].pop("llm_int8_skip_modules") is None
    assert configs[0] == configs[1]


def test_P10_what_other_layouts_cannot_hold_is_said_before_anything_is_written(tmp_path):
    model, params = fm.AutoModelForCausalLM.from_pretrained(FOLDERS / "gptq-llama")
    for options, problem in (
        ({"quant_method": "bitsandbytes"}, "has int8, nf4 and fp4, and no uint4.*leave quant_meth"),
        ({"quant_method": "fp8"}, "kernel: .*FP8 has float8_e4m3fn .*nothing was written"),
        ({"quant_method": "gptq"}, "what can be written is flaxmodels, bitsandbytes, fp8"),
        ({"quant_method": "fp8", "format": "msgpack"}, "is for PyTorch's names"),
    ):
        with pytest.raises(ValueError, match=problem):
            model.save_pretrained(params, tmp_path, **options)
    model, params = fm.AutoModelForCausalLM.from_pretrained(FOLDERS / "bitsandbytes-nf4-llama")
    mixed = fp.quantize(params, "int8", lambda path, _: path == "lm_head/kernel")
    with pytest.raises(CheckpointError, match="one kind of weights; these are int8, nf4"):
        model.save_pretrained(mixed, tmp_path, quant_method="bitsandbytes")
    dense, numbers = model.dequantize(params)
    with pytest.raises(CheckpointError, match="quant_method='fp8': no weight is quantised; leave"):
        dense.save_pretrained(numbers, tmp_path, quant_method="fp8")
    with pytest.raises(TypeError, match="max_shard_size: orbax makes no shards"):
        dense.save_pretrained(numbers, tmp_path, format="orbax", max_shard_size="1KB")
    assert not [*tmp_path.iterdir()]


def test_P10_parts_that_pytorch_has_as_one_are_written_as_one(tmp_path):
    config = fm.Phi3Config(
        vocab_size=24, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    model = fm.Phi3ForCausalLM(config)
    kernels = lambda path, _: "/layers/" in path and path.endswith("kernel")  # noqa: E731
    for scheme in ("nf4", "int8"):
        params = fp.quantize(params_of(model), scheme, kernels)
        model.save_pretrained(params, tmp_path, quant_method="bitsandbytes")
        weight = open_checkpoint(tmp_path)["model.layers.0.self_attn.qkv_proj.weight"]
        assert weight.shape == ((192, 64) if scheme == "int8" else (192 * 64 // 2, 1))
        _, again = fm.Phi3ForCausalLM.from_pretrained(tmp_path)
        for path, leaf in fp.flatten(params).items():
            one, other = map(jax.tree.leaves, (leaf, fp.flatten(again)[path]))
            assert all(map(np.array_equal, one, other)), path
    params = fp.quantize(params_of(model), "nf4", lambda path, _: path.endswith("q_proj/kernel"))
    with pytest.raises(CheckpointError, match="qkv_proj.weight is joined of .*q_proj/kernel and"):
        model.save_pretrained(params, tmp_path, quant_method="bitsandbytes")
