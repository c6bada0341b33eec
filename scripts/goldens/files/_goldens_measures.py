"""Make tests/goldens/measures.json: what Transformers counts of the golden checkpoints.

    python scripts/goldens/files/_goldens_measures.py

Run by hand where torch and Transformers 4 are; last with Python 3.11.7, torch 2.13.0 (CPU) and
transformers 4.53.3, the last version that has all of these methods.
"""

import json
import platform
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[3] / "tests" / "goldens"
CHECKPOINTS = ("bert-masked-lm", "gpt2-lm-head", "gpt2-untied", "llama-causal-lm", "llama-tied")
IDS = torch.arange(10).reshape(2, 5)
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
PAIRS = torch.tensor([[[1, 0], [1, 1]], [[0, 1], [1, 0]]])


def counted(name):
    folder = ROOT / name / "checkpoint"
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, config.architectures[0]).from_pretrained(folder)
    inputs = {"input_ids": IDS}
    return {
        "num_parameters": model.num_parameters(),
        "without_embeddings": model.num_parameters(exclude_embeddings=True),
        "memory_footprint": model.get_memory_footprint(return_buffers=False),
        "tokens": model.estimate_tokens(inputs),
        "floating_point_ops": model.floating_point_ops(inputs),
        "floating_point_ops_all": model.floating_point_ops(inputs, exclude_embeddings=False),
    }


def masks():
    model = transformers.BertModel(
        transformers.BertConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
    )
    made = {"extended": model.get_extended_attention_mask(MASK, (2, 5))}
    made["pairs"] = model.get_extended_attention_mask(PAIRS, (2, 2))
    made["inverted"] = model.invert_attention_mask(MASK)
    made["inverted_pairs"] = model.invert_attention_mask(PAIRS)
    model.config.is_decoder = True
    made["causal"] = model.get_extended_attention_mask(MASK, (2, 5))
    made["prefix"] = model.get_extended_attention_mask(MASK, (2, 3))
    return {name: mask.tolist() for name, mask in made.items()}


def main():
    versions = {module.__name__: module.__version__ for module in (torch, transformers)}
    result = {
        "made by": {"python": platform.python_version(), **versions},
        "counts": {name: counted(name) for name in CHECKPOINTS},
        "masks": masks(),
    }
    (ROOT / "measures.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
