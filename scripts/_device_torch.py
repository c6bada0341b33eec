"""Measures the same work as `_device.py`, done by PyTorch and Transformers on the same device."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
transformers.logging.set_verbosity_error()


def load(sizes: Any, folder: Path) -> dict[str, Any]:
    """Loads a checkpoint to the device."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return versions | {"s": seconds(sizes, lambda: _llama(folder))}


def generate(sizes: Any, batches: tuple[int, ...], folder: Path) -> dict[str, Any]:
    """Generates greedily: milliseconds of a step; and runs four long rows once."""
    model, figures = _llama(folder), {}
    with torch.no_grad():
        for batch in batches:
            ids = _ids(batch, sizes.prompt)

            def run(count: int, ids: torch.Tensor = ids) -> Any:
                counts = {"max_new_tokens": count, "min_new_tokens": count, "pad_token_id": 0}
                mask = torch.ones_like(ids)
                return model.generate(ids, attention_mask=mask, do_sample=False, **counts)

            whole, one = (seconds(sizes, lambda n=n: run(n)) for n in (sizes.new + 1, 1))
            figures[f"batch {batch} ms"] = (whole - one) / sizes.new * 1e3
        ids = _ids(4, sizes.prefill)
        figures["prefill s"] = seconds(sizes, lambda: model(ids))
    return figures


def train(sizes: Any) -> dict[str, Any]:
    """Trains GPT-2 by AdamW under autocast to bfloat16, eagerly."""
    drop = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes.gpt2, **drop)).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=DEVICE == "cuda")
    rows, length = sizes.trained[0]
    ids = torch.randint(5, min(1000, sizes.gpt2["vocab_size"]), (rows, length), device=DEVICE)

    def step() -> None:
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    took = seconds(sizes, step)
    return {"s": took, "tokens/s": rows * length / took}


def seconds(sizes: Any, call: Callable[[], Any]) -> float:
    """Calls once, and then takes the median of at most three times."""
    times = []
    for _ in range(1 + min(3, sizes.runs)):
        start = time.perf_counter()
        call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _llama(folder: Path) -> Any:
    kind = transformers.AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=torch.bfloat16).to(DEVICE).eval()


def _ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(5, 200, (rows, length), device=DEVICE)
