"""NVIDIA's ModelOpt: NVFP4 and FP8.

NVFP4 has `P.weight` uint8 [out, in / 2], `P.weight_scale` float8_e4m3fn [out, in / 16], and
`P.weight_scale_2`, one float32 that the scales are multiplied with. FP8 has one scale for a weight.
Activations are quantised by none of our programs: their scales are passed over.

Source: https://github.com/NVIDIA/TensorRT-Model-Optimizer (`modelopt/torch/export`).
"""

import numpy as np

from ...errors import quoted
from ...formats.source import Source, Tensor
from ...strict_json import Json
from ..lazy_tensors import absent, misfit
from ..packed import packed_tensor
from ..qtensor import Form
from .companions import arranged, plain_dtype, rewritten
from .compressed_weights import nvfp4_scale
from .fp8 import read as read_fp8
from .settings import Settings, unread

_GROUP = 16


def read(source: Source, config: Json) -> Source:
    """Returns a source whose quantised weights are packed tensors.

    Raises:
        CheckpointError: another algorithm; settings or tensors that do not fit.
    """
    settings = Settings.of(source.where, config)
    algorithm = settings.values.get("quant_algo")
    if algorithm == "FP8":
        return read_fp8(source, {"quant_method": "modelopt"})
    if algorithm != "NVFP4":
        raise unread(source.where, f"quant_algo {quoted(algorithm)} of modelopt", ("FP8", "NVFP4"))
    plain = plain_dtype(source)
    packed: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, weight in source.tensors.items():
        names = f"{name}_scale", f"{name}_scale_2"
        if not name.endswith("weight") or names[0] not in source.tensors:
            continue
        if names[1] not in source.tensors:
            raise absent(weight, names[1])
        if weight.dtype != np.uint8 or len(weight.shape) < 2:
            raise misfit(weight, f"is {weight.dtype}{list(weight.shape)}; expected rows of uint8")
        scale, whole = (source.tensors[x] for x in names)
        form = Form("e2m1", (1, _GROUP), plain)
        grid = form.blocks(form.stored(weight.shape))
        scale = arranged(scale, grid, weight, f"blocks of {form.block}")
        scales = nvfp4_scale(scale, whole, divides=False)
        packed[name] = packed_tensor(name, {"data": weight, "scale": scales}, form)
        used |= {name, *names}
    lost = [x for x in source.tensors if x.endswith(("weight_scale", "weight_scale_2"))]
    return rewritten(source, packed, used, lost, "it is missing")
