"""bitsandbytes: what its layers store of a quantised weight, so that Transformers opens it.

The formats are those of `params/quantized/readers/bitsandbytes.py`. What was read by it is written
bit for bit, but for blocks that go on over the ends of rows.
"""

import json
from collections.abc import Collection

import numpy as np

from ...strict_json import Json
from ...types import Concrete
from ..codes import CODEBOOKS
from ..nested_scales import BLOCK
from ..qtensor import Form, QTensor, in_float32

_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)


def tensors_of(module: str, weight: QTensor) -> dict[str, np.ndarray]:
    """Returns what a layer of bitsandbytes stores of its weight.

    Args:
        module: its name in PyTorch, such as "model.layers.0.mlp.up_proj".
        weight: a kernel of arrays of NumPy, (in, out) and stored (out, in), without stacked layers.

    Raises:
        ValueError: a weight that bitsandbytes has no layer for; the message says why.
    """
    if problem := misfit(weight.form, weight.shape):
        raise ValueError(f"{module}: {problem}")
    name, form, data = f"{module}.weight", weight.form, np.asarray(weight.data)
    if form.codes == "int8":
        scale = np.asarray(in_float32(weight.scale))[:, 0]
        # Scales of other writers: bitsandbytes divides its own by 127.
        scale = scale if form.factor != 1 else scale * np.float32(127)
        layout = np.zeros((), np.uint8)
        return {name: data, f"{module}.SCB": scale, f"{name}_format": layout}
    shape = list(weight.stored)
    absmax, nested = _scales(weight.scale)
    state = {
        "quant_type": form.codes,
        "blocksize": form.block[1],
        "dtype": form.dtype.name,
        "shape": shape,
    }
    tensors = {
        name: (data >> 4 | data << 4).reshape(-1, 1),
        f"{name}.absmax": absmax,
        f"{name}.quant_map": _table(form.codes),
    }
    if nested is not None:
        scale, offset = nested
        state |= {
            "nested_blocksize": BLOCK,
            "nested_dtype": "float32",
            "nested_offset": float(offset),
        }
        tensors |= {f"{name}.nested_absmax": scale, f"{name}.nested_quant_map": _table("dynamic8")}
    said = np.frombuffer(json.dumps(state).encode(), np.uint8)
    return tensors | {f"{name}.quant_state.bitsandbytes__{form.codes}": said}


def misfit(form: Form, shape: tuple[int, ...]) -> str:
    """Returns why bitsandbytes has no layer for a weight of a logical shape; "" if it has one."""
    if not form.turned or len(shape) != 2:
        return f"bitsandbytes quantises kernels of linear layers; this is {form.codes} {shape}"
    if form.codes == "int8" and form.block == (1, -1):
        return ""
    if form.codes not in ("nf4", "fp4"):
        return f"bitsandbytes has int8, nf4 and fp4, and no {form.codes} in blocks of {form.block}"
    if form.block[0] != 1 or form.block[1] not in _BLOCKS or shape[0] % form.block[1]:
        return (
            f"bitsandbytes' blocks are of {', '.join(map(str, _BLOCKS))} numbers of a row; these "
            f"are of {form.block}, and rows have {shape[0]}"
        )
    if form.dtype.name not in ("float32", "float16", "bfloat16"):
        return f"bitsandbytes' weights are float32, float16 or bfloat16; this one is {form.dtype}"
    return ""


def config_of(forms: Collection[Form], dense: Collection[str]) -> dict[str, Json]:
    """Returns the `quantization_config` of weights of these forms, with all keys that Transformers
    writes.

    Args:
        dense: names of the modules that stay as they are; the layers of a model that are not named
            are those that Transformers expects quantised.

    Raises:
        ValueError: int8 and 4 bits, which it has no config for, or nf4 and fp4.
    """
    kinds = {form.codes for form in forms}
    if len(kinds) != 1:
        raise ValueError(
            f"bitsandbytes' config is of one kind of weights; these are {', '.join(sorted(kinds))}"
        )
    (kind,) = kinds
    in_8bit = kind == "int8"
    return {
        "_load_in_4bit": not in_8bit,
        "_load_in_8bit": in_8bit,
        "bnb_4bit_compute_dtype": "float32" if in_8bit else _widest(forms),
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": "fp4" if in_8bit else kind,
        "bnb_4bit_use_double_quant": any(form.scale is not None for form in forms),
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": sorted(dense),
        "llm_int8_threshold": 6.0,
        "load_in_4bit": not in_8bit,
        "load_in_8bit": in_8bit,
        "quant_method": "bitsandbytes",
    }


def _widest(forms: Collection[Form]) -> str:
    """Returns the dtype to compute in: that of the weights, float32 if they have several."""
    dtypes = {form.dtype.name for form in forms}
    return dtypes.pop() if len(dtypes) == 1 else "float32"


def _scales(scale: Concrete | QTensor) -> tuple[np.ndarray, tuple[np.ndarray, np.float32] | None]:
    """Returns the scales of blocks, and the scales and the offset of those, where they are
    quantised as bitsandbytes has it; otherwise numbers."""
    if isinstance(scale, QTensor) and scale.form.codes == "dynamic8" and scale.offset is not None:
        steps, means = np.asarray(scale.scale), np.asarray(scale.offset)
        flat = np.repeat(steps, scale.form.block[1], -1)[:, : scale.shape[1]].reshape(-1)
        inner, offset = flat[::BLOCK], -means[0, 0]
        is_one = (np.repeat(inner, BLOCK)[: flat.size] == flat).all()
        if is_one and (means == means[0, 0]).all():
            return np.asarray(scale.data).reshape(-1), (inner, offset)
    return np.asarray(in_float32(scale), np.float32).reshape(-1), None


def _table(codes: str) -> np.ndarray:
    return np.asarray(CODEBOOKS[codes], np.float32)
