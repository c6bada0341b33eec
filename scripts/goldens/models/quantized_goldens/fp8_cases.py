"""FP8 for `make_quantized_goldens.py`: Transformers' own quantiser and dequantisers, on a CPU."""

import json
from types import SimpleNamespace
from typing import Any

import torch
from _weights import uniform
from quantized_goldens.model import FOLDERS, Case, saved, tiny_llama
from transformers import FineGrainedFP8Config, LlamaForCausalLM
from transformers.integrations import finegrained_fp8

E4M3 = torch.float8_e4m3fn


def cases() -> dict[str, Case]:
    return {
        "block": _block(),
        "ue8m0": _ue8m0(),
        "mxfp8": _mxfp8(),
        "per_tensor": _per_tensor(),
        "weight_scale": _weight_scale(),
        "fp4_experts": _fp4_experts(),
        "stacked_experts": _stacked_experts(),
        "fbgemm": _fbgemm(),
    }


def folder() -> None:
    """Writes tests/goldens/quantized/fp8-llama: 8 x 8 blocks by Transformers' quantiser."""
    config = FineGrainedFP8Config(weight_block_size=(8, 8), modules_to_not_convert=["lm_head"])
    quantise = finegrained_fp8.Fp8Quantize(SimpleNamespace(quantization_config=config))
    tensors = {}
    for name, value in tiny_llama().state_dict().items():
        is_linear = name.endswith("proj.weight")
        tensors |= quantise._quantize_one(name, value) if is_linear else {name: value}
    saved("fp8-llama", tensors, config.to_dict())
    reference = LlamaForCausalLM.from_pretrained(
        FOLDERS / "fp8-llama",
        dtype=torch.float32,
        quantization_config=FineGrainedFP8Config(weight_block_size=(8, 8), dequantize=True),
    )
    saved("fp8-llama", tensors, config.to_dict(), reference)


def _config(block: list[int] | None = None, **more: Any) -> dict[str, Any]:
    config = FineGrainedFP8Config(weight_block_size=block or (128, 128), **more).to_dict()
    return json.loads(json.dumps(config)) | {"weight_block_size": block}


def _values(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(uniform(name, shape))


def _quantised(value: torch.Tensor, **settings: Any) -> dict[str, torch.Tensor]:
    config = SimpleNamespace(quantization_config=FineGrainedFP8Config(**settings))
    return finegrained_fp8.Fp8Quantize(config)._quantize_one("a.weight", value)


def _dequantised(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return finegrained_fp8.Fp8Dequantize(None)._dequantize_one(weight, scale, torch.float32)


def _block():
    """Blocks at the edges are partial, as DeepSeek's kernel masks them; Transformers' backward
    pass does it on any device, and its `Fp8Dequantize` refuses them."""
    weight = (_values("block", 40, 36) * 448).to(E4M3)
    scale = _values("block scale", 3, 2).abs() / 448
    decoded = finegrained_fp8._dequantize_fp8_weight(weight, scale, [16, 24], torch.float32)
    config = _config([16, 24], modules_to_not_convert=["lm_head"])
    return config, {
        "a.weight": weight,
        "a.weight_scale_inv": scale,
        "a.bias": _values("bias", 40),
        "lm_head.weight": _values("head", 8, 36).bfloat16(),
        "decoded:a.weight": decoded,
    }


def _ue8m0():
    made = _quantised(_values("ue8m0", 32, 48), weight_block_size=(16, 16), scale_fmt="ue8m0")
    decoded = _dequantised(made["a.weight"], made["a.weight_scale_inv"])
    config = _config([16, 16], scale_fmt="ue8m0")
    return config, {**made, "decoded:a.weight": decoded}


def _mxfp8():
    made = _quantised(_values("mxfp8", 8, 64), weight_block_size=(1, 32), scale_fmt="ue8m0")
    scale = made["a.weight_scale_inv"].view(torch.uint8)
    decoded = _dequantised(made["a.weight"], scale)
    config = _config([1, 32], scale_fmt="ue8m0")
    return config, {
        "a.weight": made["a.weight"],
        "a.weight_scale_inv": scale,
        "decoded:a.weight": decoded,
    }


def _per_tensor():
    made = _quantised(_values("per tensor", 8, 24), weight_block_size=None)
    weight, scale = made["a.weight"], made["a.weight_scale_inv"].reshape(())
    return _config(None, activation_scheme="static"), {
        "a.weight": weight,
        "a.weight_scale_inv": scale,
        "a.activation_scale": torch.tensor(0.5),
        "decoded:a.weight": _dequantised(weight, scale),
    }


def _weight_scale():
    """As AutoFP8 and vLLM write it: a scale for each tensor, called `weight_scale`."""
    weight = (_values("weight scale", 8, 24) * 448).to(E4M3)
    scale = torch.tensor(0.0021, dtype=torch.bfloat16)
    config = {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]}
    return config, {
        "a.weight": weight,
        "a.weight_scale": scale,
        "a.input_scale": torch.tensor(0.25),
        "decoded:a.weight": _dequantised(weight, scale),
    }


def _fp4_experts():
    """DeepSeek-V4: experts of two e2m1 a byte, 32 to an e8m0 scale, under the name `scale`."""
    weight = (_values("fp4", 4, 32) * 128).round().to(torch.int8)
    scale = (_values("fp4 scale", 4, 2) * 4).round().exp2().to(torch.float8_e8m0fnu)
    config = _config([128, 128], scale_fmt="ue8m0", expert_dtype="fp4")
    return config, {
        "experts.0.w1.weight": weight,
        "experts.0.w1.scale": scale,
        "decoded:experts.0.w1.weight": _dequantised(weight, scale),
    }


def _stacked_experts():
    weight = (_values("experts", 2, 20, 12) * 448).to(E4M3)
    scale = _values("experts scale", 2, 3, 2).abs() / 448
    decoded = finegrained_fp8._dequantize_fp8_weight(weight, scale, [8, 8], torch.float32)
    return _config([8, 8]), {
        "experts.gate_up_proj": weight,
        "experts.gate_up_proj_scale_inv": scale,
        "decoded:experts.gate_up_proj": decoded,
    }


def _fbgemm():
    """FBGEMM's quantiser needs a GPU; its row-wise arithmetic is q = x * 448 / max|x|."""
    value = _values("fbgemm", 6, 16)
    scale = value.abs().amax(1, keepdim=True) / 448
    weight = (value / scale).to(E4M3)
    config = {
        "quant_method": "fbgemm_fp8",
        "activation_scale_ub": 1200.0,
        "modules_to_not_convert": ["lm_head"],
    }
    return config, {
        "a.weight": weight,
        "a.weight_scale": scale,
        "a.input_scale_ub": torch.tensor([1200.0]),
        "decoded:a.weight": weight.float() * scale,
    }
