"""The model that `make_quantized_goldens.py` quantises, and how a folder of it is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from _weights import integers, weights
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

Case: TypeAlias = tuple[dict[str, Any], dict[str, torch.Tensor]]
"""A quantization_config, and tensors: those of a file, and "decoded:NAME", what they stand for."""
FOLDERS = Path(__file__).resolve().parents[4] / "tests" / "goldens" / "quantized"
CONFIG = LlamaConfig(
    vocab_size=24,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=32,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_id=2,
)
INPUT_IDS = integers("input_ids", (2, 6), 3, 24)


def tiny_llama(**changes: Any) -> LlamaForCausalLM:
    """Makes a Llama of 6,900 parameters in bfloat16, or one whose config has `changes`."""
    model = LlamaForCausalLM(LlamaConfig(**(CONFIG.to_diff_dict() | changes)))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    drawn = {name: torch.from_numpy(value) for name, value in weights(shapes).items()}
    model.load_state_dict(drawn)
    return model.bfloat16().eval()


def saved(
    folder: str,
    tensors: dict[str, torch.Tensor],
    quantization: dict[str, Any],
    reference: LlamaForCausalLM | None = None,
) -> None:
    """Writes a folder, and the logits of `reference`, which has its weights dequantised."""
    where = FOLDERS / folder
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    config = (reference.config if reference else CONFIG).to_diff_dict() | {
        "architectures": ["LlamaForCausalLM"],
        "dtype": "bfloat16",
        "quantization_config": quantization,
    }
    (where / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    held = {name: value.contiguous() for name, value in tensors.items()}
    save_file(held, where / "model.safetensors", {"format": "pt"})
    if reference is not None:
        dense = reference.float().state_dict()
        # A new model: tables of positions are not those of a model that was in bfloat16.
        model = LlamaForCausalLM(reference.config).eval()
        model.load_state_dict({name: dense[name] for name in model.state_dict()})
        with torch.no_grad():
            logits = model(torch.from_numpy(INPUT_IDS).long()).logits
        held = {"input_ids": torch.from_numpy(INPUT_IDS), "logits": logits}
        save_file(held, where / "golden.safetensors")


def saved_by_modules(
    folder: str,
    quantization: dict[str, Any],
    quantised: Callable[[str, torch.Tensor], tuple[dict[str, torch.Tensor], torch.Tensor] | None],
) -> None:
    """Writes a folder of a Llama in float16, whose modules are quantised one by one.

    Args:
        quantised: name of a module, its weight -> the tensors of the file, and what these decode
            to; None of a module that is left as it is.
    """
    # Of another dtype than that of the weights: `to` would round the angles of positions too.
    model, tensors = tiny_llama(hidden_size=32, head_dim=16), {}
    reference = LlamaForCausalLM(model.config)
    reference.load_state_dict(model.state_dict())
    for name, value in reference.state_dict().items():
        made = quantised(name.removesuffix(".weight"), value)
        if made is None:
            tensors[name] = value.half()
        else:
            tensors |= made[0]
        value.copy_(tensors[name] if made is None else made[1])
    saved(folder, tensors, quantization, reference)
