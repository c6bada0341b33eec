"""FP8 as DeepSeek has it, so that Transformers opens it: a scale for each block of a weight.

The format is that of `params/quantized/readers/fp8.py`. Source: `Fp8Quantize` and
`FineGrainedFP8Config` of Transformers 5.23.
"""

from collections.abc import Collection
from typing import Any

from ...errors import warn_once
from ...strict_json import Json
from ..qtensor import Form, QTensor, in_float32


def tensors_of(module: str, weight: QTensor) -> dict[str, Any]:
    """Returns what a layer of FP8 stores of its weight: codes [out, in], and a scale for each block
    of them, or one of shape () for all.

    Args:
        module: its name in PyTorch, such as "model.layers.0.mlp.up_proj".
        weight: a kernel, (in, out) and stored (out, in), without stacked layers.

    Raises:
        ValueError: a weight that the format does not hold; the message says why.
    """
    if problem := misfit(weight.form, weight.shape):
        raise ValueError(f"{module}: {problem}")
    if weight.zero is not None or weight.offset is not None or weight.perm is not None:
        raise ValueError(f"{module}: FP8 has neither zero points, offsets nor an order of columns")
    block, scale = weight.form.block, in_float32(weight.scale)
    sizes = zip(weight.stored, block, strict=True)
    if min(block) > 0 and any(size > unit and size % unit for size, unit in sizes):
        warn_once(
            f"FP8 in blocks of {block}: those at the edges of some weights are smaller. Kernels of "
            "GPUs read them; Transformers 5.23 on a CPU, which divides a weight into equal blocks, "
            "does not"
        )
    name = f"{module}.weight"
    return {name: weight.data, f"{name}_scale_inv": scale if min(block) > 0 else scale.reshape(())}


def misfit(form: Form, shape: tuple[int, ...]) -> str:
    """Returns why FP8 has no layer for a weight of a logical shape; "" if it has one."""
    if not form.turned or len(shape) != 2:
        return f"FP8 is for kernels of linear layers; this is {form.codes} {shape}"
    is_block = min(form.block) > 0 or form.block == (-1, -1)
    if form.codes != "float8_e4m3fn" or not is_block or form.factor != 1:
        return (
            f"FP8 has float8_e4m3fn with a scale for a block or for all, and no {form.codes} in "
            f'blocks of {form.block}: quantise it as "float8_block" or "float8_tensor"'
        )
    return ""


def config_of(forms: Collection[Form], dense: Collection[str]) -> dict[str, Json]:
    """Returns the `quantization_config` of weights of these forms.

    Args:
        dense: names of the modules that stay as they are; the layers of a model that are not named
            are those that Transformers expects quantised.

    Raises:
        ValueError: blocks of several sizes, which it has no config for.
    """
    blocks = sorted({form.block for form in forms})
    if len(blocks) != 1:
        sizes = ", ".join(map(str, blocks))
        raise ValueError(f"FP8's config is of one size of blocks; these are {sizes or 'none'}")
    (block,) = blocks
    return {
        "activation_scheme": "dynamic",
        "dequantize": False,
        "expert_dtype": "fp8",
        "modules_to_convert": None,
        "modules_to_not_convert": sorted(dense),
        "quant_method": "fp8",
        "scale_fmt": "float",
        "weight_block_size": None if block == (-1, -1) else [*block],
    }
