"""MXFP4 for `make_quantized_goldens.py`: gpt-oss's experts, by Transformers' dequantiser."""

import torch
from _weights import integers, uniform
from quantized_goldens.model import Case
from transformers.integrations.mxfp4 import convert_moe_packed_tensors


def cases() -> dict[str, Case]:
    tensors = {}
    for name, rows, groups in (("gate_up_proj", 12, 2), ("down_proj", 8, 1)):
        blocks = integers(f"{name} blocks", (2, rows, groups, 16), 0, 256)
        scales = integers(f"{name} scales", (2, rows, groups), 110, 131)
        packed = torch.from_numpy(blocks).to(torch.uint8), torch.from_numpy(scales).to(torch.uint8)
        tensors |= {
            f"experts.{name}_blocks": packed[0],
            f"experts.{name}_scales": packed[1],
            f"experts.{name}_bias": torch.from_numpy(uniform(name, (2, rows))).bfloat16(),
            f"decoded:experts.{name}": convert_moe_packed_tensors(*packed, dtype=torch.float32),
        }
    config = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    return {"gpt_oss": (config, tensors)}
