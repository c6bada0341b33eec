"""MXFP4 as gpt-oss has it: the weights of all experts of a layer in two tensors.

`P_blocks` uint8 [experts, rows, groups, 16] holds two numbers of four bits (e2m1) in a byte, the
low half first, and `P_scales` uint8 [experts, rows, groups] the exponent of each group of 32, 127
too large: section 5.3 of the OCP's Microscaling Formats 1.0. A model has `P` as [experts, in, out],
the transpose, and so has the tensor that is made here.
"""

import numpy as np

from ...errors import quoted
from ...formats.source import Source, Tensor
from ...strict_json import Json
from ..lazy_tensors import absent, misfit, viewed
from ..packed import PackedTensor, packed_tensor
from ..qtensor import Form
from .companions import E8M0, plain_dtype, rewritten
from .settings import Settings

_BYTES = 16  # of a group of 32 numbers


def read(source: Source, config: Json) -> Source:
    """Returns a source that has `P` as a packed tensor in place of `P_blocks` and `P_scales`.

    Raises:
        CheckpointError: tensors that do not fit each other; with file, tensor and what to do.
    """
    Settings.of(source.where, config).texts("modules_to_not_convert")
    plain = plain_dtype(source)
    packed: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, blocks in source.tensors.items():
        if not name.endswith("_blocks"):
            continue
        weight = name.removesuffix("_blocks")
        if f"{weight}_scales" not in source.tensors:
            raise absent(blocks, f"{weight}_scales")
        scales = source.tensors[f"{weight}_scales"]
        packed[weight] = _experts(weight, blocks, scales, plain)
        used |= {name, f"{weight}_scales"}
    lost = [name for name in source.tensors if name.endswith("_scales")]
    return rewritten(source, packed, used, lost, "its _blocks are missing")


def _experts(name: str, blocks: Tensor, scales: Tensor, dtype: np.dtype) -> PackedTensor:
    for tensor in (blocks, scales):
        if tensor.dtype != np.uint8:
            raise misfit(tensor, f"has dtype {tensor.dtype}; expected uint8")
    if len(blocks.shape) != 4 or blocks.shape[-1] != _BYTES:
        raise misfit(
            blocks, f"has shape {blocks.shape}; expected (experts, rows, groups, {_BYTES})"
        )
    if scales.shape != blocks.shape[:-1]:
        raise misfit(
            scales, f"has shape {scales.shape}; {quoted(blocks.name)} needs {blocks.shape[:-1]}"
        )
    experts, rows, groups, _ = blocks.shape
    data = viewed(blocks, (experts, rows, groups * _BYTES))
    scale = viewed(scales, scales.shape, E8M0)
    form = Form("e2m1", (1, 2 * _BYTES), dtype, turned=True)
    return packed_tensor(name, {"data": data, "scale": scale}, form)
