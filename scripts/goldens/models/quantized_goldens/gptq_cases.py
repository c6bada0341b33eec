"""GPTQ for `make_quantized_goldens.py`: what gptqmodel's layers pack, and what they decode it to.

Its sources and what they import must be on PYTHONPATH; nothing of it needs a GPU:

    pip download --no-deps --no-binary :all: gptqmodel==7.7.0
    pip install --no-deps --target site pypcre threadpoolctl logbar device-smi tokenicer
    pip install --no-deps --target site defuser pillow
"""

from typing import Any

import torch
from _weights import uniform
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.quantization import FORMAT
from gptqmodel.utils.model import (
    convert_gptq_v1_to_v2_format_module,
    convert_gptq_v2_to_v1_format_module,
)
from gptqmodel.utils.model_dequant import unpack_cols, unpack_rows
from gptqmodel.version import __version__
from quantized_goldens.model import Case, saved_by_modules

VERSIONS = {"gptqmodel": __version__}
_COMMON = {"quant_method": "gptq", "sym": False, "lm_head": False, "pack_dtype": "int32"}
# name -> shape [in, out], config
_CASES = {
    "w4": ((32, 16), {"bits": 4, "group_size": 16}),
    "w2": ((32, 16), {"bits": 2, "group_size": 16}),
    "w3": ((32, 32), {"bits": 3, "group_size": 16}),
    "w8": ((32, 16), {"bits": 8, "group_size": 16}),
    "w4_sym": ((32, 16), {"bits": 4, "group_size": 16, "sym": True}),
    "w4_all": ((32, 16), {"bits": 4, "group_size": -1}),
    "w4_act": ((48, 16), {"bits": 4, "group_size": 16, "desc_act": True}),
    "w3_act": ((64, 32), {"bits": 3, "group_size": 16, "desc_act": True}),
    "w8_act": ((40, 16), {"bits": 8, "group_size": 16, "desc_act": True}),
    "w4_v2": ((32, 16), {"bits": 4, "group_size": 16, "checkpoint_format": "gptq_v2"}),
    "w3_v2": ((32, 32), {"bits": 3, "group_size": 16, "checkpoint_format": "gptq_v2"}),
    # the last group is smaller; the key of the format as gptqmodel 7 writes it too
    "w4_short": ((40, 16), {"bits": 4, "group_size": 16, "format": "gptq"}),
}


def cases() -> dict[str, Case]:
    found = {}
    for name, (shape, config) in _CASES.items():
        config = _COMMON | {"desc_act": False, "checkpoint_format": "gptq"} | config
        value = torch.from_numpy(uniform(f"gptq {name}", shape[::-1]))
        made, decoded = quantised("a", value, config)
        found[name] = config, made | {"decoded:a.weight": decoded}
    return found


def folder() -> None:
    """Writes a Llama of 4 bits in order of activation, and one with other bits for some modules."""
    common = _COMMON | {
        "bits": 4,
        "group_size": 16,
        "meta": {"quantizer": f"gptqmodel:{__version__}"},
    }
    act = common | {"desc_act": True, "checkpoint_format": "gptq"}
    _saved("gptq-llama", act, lambda name: act)
    dynamic = {
        r"-:.*\.v_proj": {},
        r"+:.*\.down_proj": {"bits": 8, "group_size": -1},
        r"model\.layers\.\d+\.mlp\.up_proj": {"bits": 2},
    }
    mixed = common | {"desc_act": False, "checkpoint_format": "gptq_v2", "dynamic": dynamic}
    mixed["lm_head"] = True

    def of(name: str) -> dict[str, Any] | None:
        """Returns what the patterns say of a module of this model."""
        if "down_proj" in name:
            return mixed | {"bits": 8, "group_size": -1}
        return None if "v_proj" in name else mixed | ({"bits": 2} if "up_proj" in name else {})

    _saved("gptq-dynamic-llama", mixed, of)


def quantised(
    name: str, value: torch.Tensor, config: dict[str, Any]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Quantises a weight [out, in] by rounding, packs it, and decodes that, in float32."""
    bits, (rows, columns) = config["bits"], value.shape
    group = columns if config["group_size"] == -1 else config["group_size"]
    order = torch.arange(columns)
    if config["desc_act"]:
        order = torch.from_numpy(uniform(f"{name} order", (columns,))).argsort()
    g_idx = torch.empty(columns, dtype=torch.int32)
    g_idx[order] = (torch.arange(columns) // group).to(torch.int32)
    scales, zeros = _scales(value, g_idx, bits, config["sym"])
    linear = torch.nn.Linear(columns, rows, bias=False)
    linear.weight.data = value
    layer = TorchLinear(
        bits, group, config["sym"], config["desc_act"], columns, rows, format=FORMAT.GPTQ_V2
    )
    layer.pack_original(linear, scales, zeros, g_idx)
    decoded = _decoded(layer)
    if config["checkpoint_format"] == "gptq":
        _to_v1(layer)
    parts = ("qweight", "qzeros", "scales", "g_idx")
    return {f"{name}.{part}": getattr(layer, part).clone() for part in parts}, decoded


def _scales(
    value: torch.Tensor, g_idx: torch.Tensor, bits: int, sym: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns scales and zeros [out, groups], of the numbers' range, which need not include 0."""
    scales, zeros = [], []
    for group in range(int(g_idx.max()) + 1):
        part = value[:, g_idx == group]
        low, high = part.amin(1), part.amax(1)
        if sym:
            high = torch.maximum(high, -low)
            low = -high
        scale = ((high - low) / (2**bits - 1)).half().float()
        scales.append(scale)
        zero = torch.round(-low / scale).clamp(0, 2**bits - 1)
        zeros.append(torch.full_like(scale, 2 ** (bits - 1)) if sym else zero)
    zeros[0][:3] = 0  # what version 1 stores as -1: it borrows from the field beside it
    return torch.stack(scales, 1), torch.stack(zeros, 1)


def _decoded(layer: TorchLinear) -> torch.Tensor:
    """Decodes as `gptqmodel.utils.model_dequant` does, [out, in] in float32."""
    codes, zeros = unpack_rows(layer.qweight, layer.bits), unpack_cols(layer.qzeros, layer.bits)
    group = layer.g_idx.long()
    scales = layer.scales.float()
    numbers = (codes[: len(group)].float() - zeros.float()[group]) * scales[group]
    return numbers.T.contiguous()


def _to_v1(layer: TorchLinear) -> None:
    """Stores zeros as version 1 does, and sees that gptqmodel reads back what there was."""
    before = layer.qzeros.clone()
    convert_gptq_v2_to_v1_format_module(layer, layer)
    stored = layer.qzeros.clone()
    convert_gptq_v1_to_v2_format_module(layer, layer.bits, layer.pack_dtype)
    assert torch.equal(layer.qzeros, before)
    layer.qzeros = stored


def _saved(folder: str, config: dict[str, Any], config_of: Any) -> None:
    def made(module: str, value: torch.Tensor):
        of = config_of(module)
        is_quantised = module.endswith("proj") or (module == "lm_head" and config["lm_head"])
        return quantised(module, value, of) if is_quantised and of is not None else None

    saved_by_modules(folder, config, made)
