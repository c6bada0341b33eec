"""bitsandbytes for `make_quantized_goldens.py`: its CPU back-end, and what Transformers saves."""

import json
import shutil
import tempfile
from typing import Any

import bitsandbytes.functional as bnb
import torch
from _weights import uniform, weights
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from bitsandbytes.nn import Int8Params, Linear4bit, Params4bit
from quantized_goldens.model import FOLDERS, INPUT_IDS, Case
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

# name -> shape, dtype, blocksize, type of codes, double quantisation, dtype of storage
_CASES_4BIT = {
    "nf4": ((6, 128), "float32", 64, "nf4", False, "uint8"),
    "fp4": ((6, 128), "float32", 64, "fp4", False, "uint8"),
    "nf4_bfloat16": ((6, 128), "bfloat16", 64, "nf4", False, "bfloat16"),
    "fp4_float16": ((6, 128), "float16", 64, "fp4", False, "float32"),
    "nf4_double": ((6, 128), "bfloat16", 64, "nf4", True, "uint8"),
    "fp4_double": ((6, 128), "float32", 128, "fp4", True, "float16"),
    # 264 blocks: the second block of scales begins in the middle of the tensor
    "nf4_double_32": ((33, 256), "float16", 32, "nf4", True, "uint8"),
    # 3 blocks a row: blocks of scales begin in the middle of rows
    "nf4_double_odd": ((90, 96), "float16", 32, "nf4", True, "uint8"),
    "nf4_4096": ((34, 128), "bfloat16", 4096, "nf4", False, "uint8"),
    "nf4_across": ((11, 96), "float32", 64, "nf4", False, "uint8"),
    "nf4_rest": ((3, 35), "float32", 64, "nf4", False, "uint8"),
}
_CASES_8BIT = {"int8": "float32", "int8_bfloat16": "bfloat16", "int8_float16": "float16"}


def cases() -> dict[str, Case]:
    """`original:a.weight` is what was quantised."""
    found = {}
    for name, (shape, dtype, block, kind, double, storage) in _CASES_4BIT.items():
        value = _values(shape, dtype)
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=kind,
            bnb_4bit_use_double_quant=double,
            bnb_4bit_quant_storage=storage,
        )
        found[name] = json.loads(json.dumps(config.to_dict())), _in_4bit(value, block, config)
    for name, dtype in _CASES_8BIT.items():
        value = _values((6, 40), dtype)
        param = Int8Params(value, requires_grad=False).to("cpu")
        found[name] = (
            BitsAndBytesConfig(load_in_8bit=True).to_dict(),
            {
                "original:a.weight": value,
                "a.weight": param.data,
                "a.SCB": param.SCB,
                "a.weight_format": torch.tensor(0, dtype=torch.uint8),
                "decoded:a.weight": bnb.int8_vectorwise_dequant(param.data, param.SCB),
            },
        )
    return found


def folder() -> None:
    """Writes models that Transformers quantises, saves and dequantises."""
    nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    double = BitsAndBytesConfig(**nf4, bnb_4bit_use_double_quant=True)
    _saved("bitsandbytes-nf4-llama", _llama(), double)
    _saved("bitsandbytes-int8-llama", _llama(), BitsAndBytesConfig(load_in_8bit=True))
    _saved("bitsandbytes-nf4-gpt2", _gpt2(), BitsAndBytesConfig(**nf4))


def _values(shape: tuple[int, int], dtype: str) -> torch.Tensor:
    """Draws a weight that has a block of zeros, numbers midway between codes, and tiny ones."""
    value = torch.from_numpy(uniform(f"bitsandbytes {shape}", shape))
    value = value.sign() * value.abs() ** 3
    value[1] = 0
    for row, kind in ((0, "nf4"), (2, "fp4")):
        code = bnb.get_4bit_type(kind, device="cpu").sort().values
        points = torch.cat([code, (code[1:] + code[:-1]) / 2, -code])[: shape[1]]
        value[row, : len(points)] = points
    if dtype == "float32":  # its CPU back-end takes what is less than that in bfloat16 for 0
        value[1, -3:] = torch.tensor([1e-40, -1e-39, 3e-41])
    return value.to(getattr(torch, dtype))


def _in_4bit(value: torch.Tensor, block: int, config: BitsAndBytesConfig) -> dict[str, Any]:
    """Quantises a weight and saves it as the layer does."""
    layer = Linear4bit(value.shape[1], value.shape[0], bias=False)
    layer.weight = Params4bit(
        value,
        blocksize=block,
        quant_type=config.bnb_4bit_quant_type,
        compress_statistics=config.bnb_4bit_use_double_quant,
        quant_storage=config.bnb_4bit_quant_storage,
    ).to("cpu")
    made = {f"a.{key}": part for key, part in layer.state_dict().items()}
    state = layer.weight.quant_state
    decoded = bnb.dequantize_4bit(layer.weight.data, state)
    if value.shape[1] % block:  # its kernel for CPUs takes blocks to end with rows
        arguments = (state.absmax, state.code, block, value.shape, value.dtype)
        decoded = _dequantize_4bit_compute(layer.weight.data.reshape(-1), *arguments)
    return {"original:a.weight": value, **made, "decoded:a.weight": decoded}


def _llama() -> PreTrainedModel:
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    tokens = {"vocab_size": 24, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(**sizes, **heads, **tokens, max_position_embeddings=32)
    return LlamaForCausalLM(config)


def _gpt2() -> PreTrainedModel:
    tokens = {"vocab_size": 24, "bos_token_id": 1, "eos_token_id": 2}
    config = GPT2Config(n_embd=64, n_layer=1, n_head=2, n_inner=64, n_positions=16, **tokens)
    return GPT2LMHeadModel(config)


def _saved(folder: str, model: PreTrainedModel, config: BitsAndBytesConfig) -> None:
    where = FOLDERS / folder
    shutil.rmtree(where, ignore_errors=True)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    drawn = {name: torch.from_numpy(value) for name, value in weights(shapes).items()}
    model.load_state_dict(drawn)
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        # float32, so that its own dequantize() gives float32
        options = {"dtype": torch.float32, "device_map": "cpu"}
        quantised = AutoModelForCausalLM.from_pretrained(
            plain, quantization_config=config, **options
        )
    quantised.save_pretrained(where)
    with torch.no_grad():
        logits = (
            quantised.dequantize(torch.float32).eval()(torch.from_numpy(INPUT_IDS).long()).logits
        )
    held = {"input_ids": torch.from_numpy(INPUT_IDS), "logits": logits.float()}
    save_file(held, where / "golden.safetensors")
