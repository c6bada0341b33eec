"""AWQ for `make_quantized_goldens.py`: what AutoAWQ's layer packs, and what it decodes it to.

Its sources and what they import must be on PYTHONPATH; nothing of it needs a GPU:

    pip download --no-deps --no-binary :all: autoawq==0.2.9
    pip install --no-deps --target site datasets pyarrow pandas dill multiprocess xxhash
    pip install --no-deps --target site python-dateutil six pytz tzdata
"""

import awq
import torch
from _weights import uniform
from awq.modules.linear.gemm import WQLinear_GEMM
from awq.utils.packing_utils import dequantize_gemm
from quantized_goldens.model import Case, saved_by_modules

VERSIONS = {"autoawq": awq.__version__}
_COMMON = {"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True}
# name -> shape [in, out], config
_CASES = {
    "w4": ((32, 32), {"group_size": 16}),
    "w4_all": ((32, 64), {"group_size": -1}),
    "w4_format": ((48, 32), {"group_size": 16, "format": "gemm", "modules_to_not_convert": ["b"]}),
}


def cases() -> dict[str, Case]:
    found = {}
    for name, (shape, config) in _CASES.items():
        value = torch.from_numpy(uniform(f"awq {name}", shape[::-1]))
        made, decoded = _quantised("a", value, config["group_size"])
        found[name] = _COMMON | config, made | {"decoded:a.weight": decoded}
    return found


def folder() -> None:
    """Writes a Llama whose head and first MLP are left as they are."""
    config = _COMMON | {"group_size": 8, "modules_to_not_convert": ["model.layers.0.mlp"]}

    def quantised(module: str, value: torch.Tensor):
        is_left = not module.endswith("proj") or ".0.mlp." in module
        return None if is_left else _quantised(module, value, 8)

    saved_by_modules("awq-llama", config, quantised)


def _quantised(
    name: str, value: torch.Tensor, group: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Quantises a weight [out, in] by rounding, packs it, and decodes that, in float32."""
    rows, columns = value.shape
    group = columns if group == -1 else group
    parts = value.reshape(rows, -1, group)
    low, high = parts.amin(2), parts.amax(2)
    scales = ((high - low) / 15).half().float()
    zeros = torch.round(-low / scales).clamp(0, 15)
    linear = torch.nn.Linear(columns, rows, bias=False)
    least, most = -zeros * scales, (15 - zeros) * scales  # the layer does not clip
    linear.weight.data = parts.clamp(least[:, :, None], most[:, :, None]).reshape(rows, columns)
    layer = WQLinear_GEMM.from_linear(linear, 4, group, False, scales.T, zeros.T)
    decoded = dequantize_gemm(layer.qweight, layer.qzeros, layer.scales.float(), 4, group)
    made = {f"{name}.{part}": getattr(layer, part) for part in ("qweight", "qzeros", "scales")}
    return made, decoded.T.contiguous()
