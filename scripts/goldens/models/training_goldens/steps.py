"""Golden steps of AdamW in PyTorch, for `make_training_goldens.py`.

Each case is a tiny model of `tests/goldens/families`, its weights by the rule of `_weights.py`,
without dropout, trained by `torch.optim.AdamW` with its own defaults at `RATE`, but for `eps`,
gradients clipped to `CLIP`. Its note has the `config`; its arrays are

    batch.*      of the first step; the batch of step i is `batch_of(case, i % BATCHES)`
    losses       of the first steps, `STEPS` of the case `CURVE`
    grad_norm    of the first one, before it is clipped
    after.*      a tensor after it, every so many numbers (`some`)
"""

import re
from typing import Any

import numpy as np
from _weights import integers

RATE, CLIP, STEPS, BATCHES = 1e-3, 1.0, 100, 4
EPS = 1e-5
"""With 1e-8 a gradient that is 0 but for rounding, as of the bias of keys, makes a step of any
size."""
ROWS, LENGTH = 4, 10
CASES = {
    "BertForMaskedLM": "bert",
    "GPT2LMHeadModel": "gpt2",
    "LlamaForCausalLM": "llama",
    "Gemma3ForCausalLM": "gemma3_text",
    "T5ForConditionalGeneration": "t5",
}
"""Class -> its family."""
CURVE = "LlamaForCausalLM"


def batch_of(case: str, number: int, size: int) -> dict[str, np.ndarray]:
    """Draws a batch with padding at the end of some rows, labels of padding ignored.

    Args:
        size: of the vocabulary.
    """
    ids = integers(f"steps.{case}.ids", (ROWS, LENGTH), 5, size, number)
    mask = (np.arange(LENGTH)[None] < LENGTH - np.arange(ROWS)[:, None]).astype(np.int32)
    labels = ids
    if "Masked" in case:
        chosen = integers(f"steps.{case}.chosen", ids.shape, 0, 3, number) == 0
        labels = np.where(chosen, integers(f"steps.{case}.labels", ids.shape, 5, size), -100)
    if "Conditional" in case:
        labels = integers(f"steps.{case}.labels", ids.shape, 5, size, number)
    labels = np.where(mask == 1, labels, -100).astype(np.int32)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def some(array: np.ndarray) -> np.ndarray:
    """Takes at most 200 numbers of an array, from all of it."""
    flat = array.reshape(-1)
    return flat[:: -(-flat.size // 200)]


def without_dropout(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: 0.0 if re.search("drop", key) and value else value for key, value in config.items()
    }


def make() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    import _families as families
    import torch
    from make_family_goldens import build

    arrays: dict[str, np.ndarray] = {}
    notes: dict[str, Any] = {}
    for case, name in CASES.items():
        family = families.load(name)
        model, entry = build(family, case, family.config_of(case))
        eps = 1e-8 if case == CURVE else EPS
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, eps=eps)
        losses = []
        for i in range(STEPS if case == CURVE else 1):
            batch = batch_of(case, i % BATCHES, model.config.vocab_size)
            loss = model(**{key: torch.tensor(x).long() for key, x in batch.items()}).loss
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            losses.append(loss.item())
            if i == 0:
                arrays[f"{case}/grad_norm"] = norm.numpy()
                for key, x in model.state_dict().items():
                    if key in entry["tensors"]:
                        arrays[f"{case}/after.{key}"] = some(x.numpy().copy())
        arrays[f"{case}/losses"] = np.array(losses, np.float32)
        config = without_dropout(entry["config"])
        notes[case] = {"config": config, "tensors": entry["tensors"], "family": name, "eps": eps}
    return arrays, notes
