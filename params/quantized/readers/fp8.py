"""FP8: weights of 8-bit floats, with a scale for all numbers, for a row or for a block of them.

`quant_method` fp8 is DeepSeek's: `P.weight` [out, in] and `P.weight_scale_inv`, which is
multiplied despite its name. A block at an edge may be smaller, as in DeepSeek's kernels
(https://github.com/deepseek-ai/DeepSeek-V3/blob/main/inference/kernel.py). The same name is used
by AutoFP8 and vLLM, with `P.weight_scale`. fbgemm_fp8 has a scale for each row.

Activations are quantised by none of our programs: their scales are passed over.
"""

import dataclasses

import numpy as np

from ...errors import quoted
from ...formats.source import Source, Tensor
from ...strict_json import Json
from ..lazy_tensors import Scales, absent, misfit, viewed
from ..packed import PackedTensor, packed_tensor
from ..qtensor import Form
from .companions import E8M0, FP8, arranged, as_scales, logical_dtype, plain_dtype, rewritten
from .settings import Settings

_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))
_MX = 32  # numbers to an e8m0 scale, by the OCP's standard
_BLOCK = (128, 128)
_SCALES = ("_scale_inv", "weight_scale", ".qscale_weight")


def read(source: Source, config: Json) -> Source:
    """Returns a source whose FP8 weights are packed tensors.

    Args:
        config: with quant_method "fp8" or "fbgemm_fp8".

    Raises:
        CheckpointError: settings or tensors that do not fit; with file, tensor and what to do.
    """
    settings = Settings.of(source.where, config)
    settings.choice("expert_dtype", ("fp8", "fp4"))
    is_default = settings.values.get("quant_method") == "fp8"
    block = settings.pair("weight_block_size", _BLOCK if is_default else None)
    kept = (*settings.texts("modules_to_not_convert"), *settings.texts("ignored_layers"))
    plain = plain_dtype(source)
    packed: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, weight in source.tensors.items():
        if weight.dtype not in FP8 and weight.dtype not in _BYTES:
            continue
        scales = [x for x in _scale_names(name) if x in source.tensors]
        if not scales:
            if weight.dtype in FP8 and not _is_kept(name, kept):
                raise absent(weight, _scale_names(name)[0])
            continue
        if len(scales) > 1:
            raise misfit(weight, f"has two scales, {' and '.join(map(quoted, scales))}")
        scale = source.tensors[scales[0]]
        packed[name] = _weight(weight, scale, block, logical_dtype(scale, plain))
        used |= {name, *scales}
    lost = [x for x in source.tensors if x.endswith(_SCALES)]
    why = "it is missing, under another name, or not of 8 bits"
    return rewritten(source, packed, used, lost, why)


def _scale_names(name: str) -> tuple[str, ...]:
    """Returns what the scales of a tensor may be called: by DeepSeek and Transformers, by vLLM and
    FBGEMM, by DeepSeek-V4 and by Mistral."""
    module = name.removesuffix(".weight")
    names = (f"{name}_scale_inv", f"{name}_scale")
    return names if module == name else (*names, f"{module}.scale", f"{module}.qscale_weight")


def _is_kept(name: str, kept: tuple[str, ...]) -> bool:
    """Tells whether settings leave a tensor as it is; patterns in them are taken as names."""
    module = name.rpartition(".")[0]
    return any(f".{x.strip('.')}." in f".{module}." for x in kept if x)


def _weight(
    weight: Tensor, scale: Tensor, block: tuple[int, int] | None, dtype: np.dtype
) -> PackedTensor:
    scale, codes, data = as_scales(scale), FP8.get(weight.dtype), weight
    if len(weight.shape) < 2:
        raise misfit(weight, f"has shape {weight.shape} and a scale; expected rows and columns")
    if codes is None and weight.dtype in _BYTES and scale.dtype == E8M0:
        # Two numbers of four bits in a byte: the experts of DeepSeek-V4.
        codes, data = "e2m1", viewed(weight, weight.shape, np.dtype(np.uint8))
    if codes is None:
        raise misfit(
            weight,
            f"has dtype {weight.dtype} and a scale beside it; expected {' or '.join(FP8.values())}",
        )
    form = Form(codes, (-1, -1), dtype)
    shape = form.stored(data.shape)
    form = dataclasses.replace(form, block=_blocks(scale, shape, block, weight))
    why = f"blocks of {form.block}" if min(form.block) > 0 else "one block a tensor or row"
    fields = {"data": data, "scale": arranged(scale, form.blocks(shape), weight, why)}
    return packed_tensor(weight.name, fields, form, scales=Scales.POSITIVE)


def _blocks(
    scale: Tensor, shape: tuple[int, ...], block: tuple[int, int] | None, weight: Tensor
) -> tuple[int, int]:
    """Returns the blocks of a weight of `shape`: those of the settings if scales are there for
    them, else those that the number of scales says."""
    *front, rows, columns = shape
    if block is not None and scale.shape == (*front, -(-rows // block[0]), -(-columns // block[1])):
        return block
    counts = [n for n in scale.shape[len(front) :] if n != 1]
    if not counts:
        return (-1, -1)
    if counts == [rows]:
        return (1, -1)
    if scale.dtype == E8M0 and scale.shape == (*front, rows, -(-columns // _MX)):
        return (1, _MX)
    if block is None and len(scale.shape) == len(shape):
        high, wide = scale.shape[-2:]
        if high and wide and not rows % high and not columns % wide:
            return (rows // high, columns // wide)
    expected = block or "all of it"
    raise misfit(
        scale,
        f"has shape {scale.shape}, and {quoted(weight.name)} of shape {shape} is in blocks of "
        f"{expected}: check weight_block_size in quantization_config",
    )
