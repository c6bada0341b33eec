"""FP8 as DeepSeek and Transformers have it: `P.weight` and `P.weight_scale_inv`.

Source: `integrations/finegrained_fp8.py` and `FineGrainedFP8Config` of Transformers 5.23.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ...errors import quoted, some, warn
from ...strict_json import Json
from ..qtensor import Form, QTensor

_SCALES = (np.dtype(np.float32), jnp.dtype(jnp.float8_e8m0fnu))


def tensors_of(name: str, weight: QTensor) -> dict[str, Any]:
    """Returns the tensors of a weight: codes [out, in], and a scale for each block of them, or one
    of shape () for all.

    Args:
        name: of the weight in the file, such as "model.layers.0.mlp.up_proj.weight".

    Raises:
        ValueError: a weight that the format does not hold.
    """
    check(name, weight.form)
    if weight.zero is not None or weight.offset is not None or weight.perm is not None:
        raise ValueError(f"{name}: FP8 has neither zero points, offsets nor an order of columns")
    if weight.scale.dtype not in _SCALES:
        known = " or ".join(map(str, _SCALES))
        raise ValueError(f"{name}: scales are {weight.scale.dtype}; FP8 has {known}")
    is_one = weight.form.block == (-1, -1) and weight.scale.ndim == 2
    scale = weight.scale.reshape(()) if is_one else weight.scale
    return {name: weight.data, f"{name}_scale_inv": scale}


def config_of(weights: Mapping[str, QTensor], plain: Collection[str] = ()) -> dict[str, Json]:
    """Returns the `quantization_config` of a checkpoint.

    Args:
        weights: {name in the file: weight} of all that are quantised.
        plain: modules whose weights are not, though they are linear layers: "lm_head".

    Raises:
        ValueError: weights in blocks of different sizes, or scales of different dtypes: the format
            has one of each.
    """
    blocks = {name: weight.form.block for name, weight in weights.items()}
    formats = {name: str(weight.scale.dtype) for name, weight in weights.items()}
    for what, found in (("blocks", blocks), ("scales", formats)):
        if len({*found.values()}) > 1:
            first, *others = found.items()
            name, value = next(item for item in others if item[1] != first[1])
            raise ValueError(
                f"FP8 has one size of blocks and one dtype of scales: {what} of {first[0]} are "
                f"{first[1]}, of {name} {value}"
            )
    block = next(iter(blocks.values()), (128, 128))
    odd = [name for name, weight in weights.items() if _is_cut(weight)]
    if odd:
        warn(
            f"blocks at the edges of {some(map(quoted, odd), 3)} are smaller than {block}: kernels "
            "for GPUs read them, and Transformers 5.23 on a CPU, which divides a weight into equal "
            "blocks, does not"
        )
    is_e8m0 = jnp.dtype(jnp.float8_e8m0fnu).name in formats.values()
    return {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": None if block == (-1, -1) else [*block],
        "scale_fmt": "ue8m0" if is_e8m0 else "float",
        "modules_to_not_convert": sorted(plain),
    }


def check(name: str, form: Form) -> None:
    """Raises `ValueError` if a weight of this form is none that the format holds."""
    is_block = min(form.block) > 0 or form.block == (-1, -1)
    if form.codes != "float8_e4m3fn" or not is_block or form.factor != 1 or form.scale is not None:
        raise ValueError(
            f"{name}: {form.codes} in blocks of {form.block} cannot be written as FP8, which holds "
            'float8_e4m3fn with a scale for a block or for all: quantise it as "float8_block" or '
            '"float8_tensor"'
        )


def _is_cut(weight: QTensor) -> bool:
    sizes = zip(weight.data.shape[-2:], weight.form.block, strict=True)
    return any(size % block for size, block in sizes if block > 0)
