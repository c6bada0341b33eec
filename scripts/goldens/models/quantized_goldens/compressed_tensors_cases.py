"""compressed-tensors for `make_quantized_goldens.py`: its compressors, on a CPU."""

import json
from typing import Any

import torch
from _weights import uniform
from compressed_tensors.compressors import BaseCompressor, ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    QuantizationStatus,
    apply_quantization_config,
)
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from quantized_goldens.model import Case, saved, tiny_llama

FLOAT, ODD = {"type": "float", "num_bits": 8}, {"symmetric": False}
CHANNEL, TENSOR = {"strategy": "channel"}, {"strategy": "tensor"}
GROUP = {"strategy": "group", "group_size": 8}
FP4 = {"type": "float", "num_bits": 4}
NVFP4 = FP4 | {"strategy": "tensor_group", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn"}
MXFP4 = FP4 | {"strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}
MXFP8 = MXFP4 | {"num_bits": 8}
BLOCK = {"strategy": "block", "block_structure": [8, 16]}
PACK, NAIVE = "pack-quantized", "naive-quantized"


def _int(bits: int, **more: Any) -> dict[str, Any]:
    return {"type": "int", "num_bits": bits, **more}


# name: (format, weights, shape, dtype)
CASES: dict[str, tuple[str, dict[str, Any], tuple[int, int], torch.dtype]] = {
    **{
        f"int{bits}_group": (PACK, _int(bits, **GROUP), (6, 40), torch.bfloat16)
        for bits in range(2, 9)
    },
    **{
        f"int{bits}_asymmetric": (PACK, _int(bits, **GROUP, **ODD), (10, 24), torch.float16)
        for bits in (3, 4, 7, 8)
    },
    "int4_channel": (PACK, _int(4, **CHANNEL), (10, 13), torch.float32),
    "int4_channel_asymmetric": (PACK, _int(4, **CHANNEL, **ODD), (10, 13), torch.bfloat16),
    "int4_tensor_asymmetric": (PACK, _int(4, **TENSOR, **ODD), (6, 24), torch.float32),
    "int8_channel": ("int-quantized", _int(8, **CHANNEL), (6, 20), torch.bfloat16),
    "int8_asymmetric": ("int-quantized", _int(8, **CHANNEL, **ODD), (6, 20), torch.float32),
    "int8_block": (NAIVE, _int(8, **BLOCK), (20, 40), torch.float32),
    "fp8_tensor": ("float-quantized", FLOAT | TENSOR, (6, 20), torch.float32),
    "fp8_channel": ("float-quantized", FLOAT | CHANNEL, (6, 20), torch.float32),
    "fp8_block": ("float-quantized", FLOAT | BLOCK, (20, 40), torch.float32),
    "fp8_bfloat16": ("float-quantized", FLOAT | CHANNEL, (4, 8), torch.bfloat16),
    "fp8_group": (NAIVE, FLOAT | GROUP, (6, 24), torch.float32),
    "nvfp4": ("nvfp4-pack-quantized", NVFP4, (6, 32), torch.bfloat16),
    "mxfp4": ("mxfp4-pack-quantized", MXFP4, (6, 64), torch.bfloat16),
    "mxfp8": ("mxfp8-quantized", MXFP8, (6, 64), torch.bfloat16),
}


def cases() -> dict[str, Case]:
    found = {}
    for name, (form, weights, shape, dtype) in CASES.items():
        scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights))
        found[name] = _config(scheme, form), _made(name, form, scheme, shape, dtype)
    return found | {"g_idx": _g_idx(), "modelopt": _modelopt(found["nvfp4"][1])}


def folder() -> None:
    """Writes tests/goldens/quantized/compressed-tensors-llama: int4 in groups, FP8 MLPs."""
    int4 = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=8, symmetric=False)
    fp8 = QuantizationArgs(num_bits=8, type="float", strategy="channel")
    groups = {
        "group_0": QuantizationScheme(targets=["Linear"], weights=int4),
        "group_1": QuantizationScheme(
            targets=["re:.*mlp.*"], weights=fp8, format="float-quantized"
        ),
    }
    config = QuantizationConfig(
        config_groups=groups,
        ignore=["lm_head"],
        quantization_status=QuantizationStatus.FROZEN,
        format=PACK,
    )
    model = tiny_llama()
    apply_quantization_config(model, config)
    for module in model.modules():
        if scheme := getattr(module, "quantization_scheme", None):
            scale, zero, _ = _qparams(module.weight.data, scheme.weights)
            module.weight_scale.data.copy_(scale)
            if not scheme.weights.symmetric:
                module.weight_zero_point.data.copy_(zero)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    quantization = _json(compressor.quantization_config) | {"quantization_status": "compressed"}
    quantization["ignore"] = ["lm_head"]
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    # Transformers 5.23 opens no packed zero points: the library that packed them decodes.
    compressor.decompress_model(model)
    saved("compressed-tensors-llama", tensors, quantization, model)


def _made(
    name: str, form: str, scheme: QuantizationScheme, shape: tuple[int, int], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    assert scheme.weights is not None
    value = torch.from_numpy(uniform(name, shape)).to(dtype)
    scale, zero, whole = _qparams(value, scheme.weights)
    state = {"weight": value, "weight_scale": scale, "weight_zero_point": zero}
    if whole is not None:
        state["weight_global_scale"] = whole
    compressor = BaseCompressor.get_value_from_registry(form)
    packed = compressor.compress(state, scheme)
    decoded = compressor.decompress(packed, scheme)["weight"]
    packed = {f"a.{key}": value for key, value in packed.items()}
    return packed | {"decoded:a.weight": decoded.detach()}


def _qparams(value: torch.Tensor, args: QuantizationArgs):
    """Computes scales and zero points by the extremes of each group."""
    rows, columns = value.shape
    whole = None
    if args.strategy == "tensor":
        low, high = value.min().reshape(1), value.max().reshape(1)
    elif args.strategy == "channel":
        low, high = value.amin(1, keepdim=True), value.amax(1, keepdim=True)
    elif args.strategy == "block":
        height, width = args.block_structure
        padded = torch.nn.functional.pad(value, (0, -columns % width, 0, -rows % height))
        blocks = padded.unflatten(1, (-1, width)).unflatten(0, (-1, height))
        low, high = blocks.amin((1, 3)), blocks.amax((1, 3))
    else:
        groups = value.unflatten(1, (-1, args.group_size))
        low, high = groups.amin(-1), groups.amax(-1)
    if args.strategy == "tensor_group":
        whole = generate_gparam(value.min(), value.max())
    scale, zero = calculate_qparams(low, high, args, global_scale=whole)
    return scale.to(value.dtype), zero, whole


def _g_idx():
    """Order of activations, as releases before 0.20 wrote it (compressed-tensors 0.9.4 gives the
    same numbers): column j belongs to group g_idx[j]."""
    args = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=8, symmetric=False)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    order = torch.from_numpy(uniform("order", (24,))).argsort()
    made = _made("g_idx", PACK, scheme, (10, 24), torch.float32)
    g_idx = torch.empty(24, dtype=torch.int32)
    g_idx[order] = torch.arange(24, dtype=torch.int32) // 8
    # What is stored is in the model's own order of columns.
    from compressed_tensors.compressors.pack_quantized.helpers import (
        pack_to_int32,
        unpack_from_int32,
    )

    sorted_codes = unpack_from_int32(made["a.weight_packed"], 4, torch.Size((10, 24)))
    codes = torch.empty_like(sorted_codes)
    codes[:, order] = sorted_codes
    decoded = torch.empty_like(made["decoded:a.weight"])
    decoded[:, order] = made["decoded:a.weight"]
    config = _config(scheme, PACK)
    config["config_groups"]["group_0"]["weights"]["actorder"] = "group"
    return config, made | {
        "a.weight_packed": pack_to_int32(codes, 4),
        "a.weight_g_idx": g_idx,
        "decoded:a.weight": decoded,
    }


def _modelopt(tensors: dict[str, torch.Tensor]):
    """The case nvfp4 as NVIDIA's ModelOpt spells it: the scale of all is multiplied."""
    whole = 1 / tensors["a.weight_global_scale"].reshape(())
    scale = tensors["a.weight_scale"]
    nibbles = tensors["a.weight_packed"]
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.cat([values, -values])
    codes = torch.stack([nibbles & 15, nibbles >> 4], -1).flatten(1).long()
    decoded = values[codes].unflatten(1, (-1, 16)) * (scale.float() * whole)[..., None]
    config = {
        "quant_method": "modelopt",
        "quant_algo": "NVFP4",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "input_activations": {"dynamic": False, "num_bits": 4, "type": "float"},
                "weights": {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16},
                "targets": ["Linear"],
            }
        },
        "producer": {"name": "modelopt", "version": "0.29.0"},
    }
    return config, {
        "a.weight": nibbles.clone(),
        "a.weight_scale": scale.clone(),
        "a.weight_scale_2": whole,
        "a.input_scale": torch.tensor(0.01),
        "decoded:a.weight": decoded.flatten(1),
    }


def _config(scheme: QuantizationScheme, form: str) -> dict[str, Any]:
    config = QuantizationConfig(
        config_groups={"group_0": scheme},
        format=form,
        ignore=["lm_head"],
        quantization_status=QuantizationStatus.COMPRESSED,
    )
    return _json(config)


def _json(config: QuantizationConfig) -> dict[str, Any]:
    return json.loads(config.model_dump_json())
