"""Golden outputs of models without some attention heads, by PyTorch Transformers 4.

    python scripts/goldens/files/_goldens_heads.py

Made from the checkpoints and arguments of two goldens of `make_goldens.py`, with Python 3.11.7,
torch 2.13.0 (CPU) and transformers 4.53.3: Transformers 5 can no longer prune. `checkpoint/` is
what `save_pretrained` wrote of the model pruned twice; `expected.safetensors` holds

    once.* twice.*     outputs after pruning ONCE, and then TWICE, with weights `attentions.<i>`
    gen.greedy         GPT-2, pruned twice: eight new tokens
    mask.n mask.ln     head masks, of one layer and of all; masked_n.* masked_ln.* what comes out
    head_mask.n ...    what `get_head_mask` makes of them; head_mask.chunked of `mask.ln`
"""

import numpy as np
import torch
from _goldens_models import ROOT, fresh, named, save_expected, torch_versions
from safetensors.numpy import load_file
from transformers import BertForMaskedLM, GPT2LMHeadModel

SOURCES = {"bert-masked-lm": BertForMaskedLM, "gpt2-lm-head": GPT2LMHeadModel}
ONCE = {1: [0, 2]}
TWICE = {0: [3], 1: [2, 3]}  # head 2 of layer 1 for the second time
MASKS = {
    "n": np.array([1, 0, 0.5, 1], "float32"),
    "ln": np.array([[0, 1, 1, 0.25], [1, 1, 0, 0]], "float32"),
}


def outputs(model, inputs, **options):
    arguments = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
    with torch.no_grad():
        out = model(**arguments, **options, output_attentions=True)
    weights = {f"attentions.{i}": array for i, array in enumerate(out.attentions)}
    return {"logits": out.logits} | weights


def make(source, cls):
    arrays = load_file(ROOT / source / "expected.safetensors")
    inputs = {k.removeprefix("in."): v for k, v in arrays.items() if k.startswith("in.")}
    path = ROOT / source / "checkpoint"
    model = cls.from_pretrained(path, attn_implementation="eager").eval()
    made = {f"mask.{name}": mask for name, mask in MASKS.items()}
    for name, mask in MASKS.items():
        mask = torch.from_numpy(mask)
        made |= named(f"masked_{name}", outputs(model, inputs, head_mask=mask))
        made |= named("head_mask", {name: model.get_head_mask(mask, 2)})
    chunked = model.get_head_mask(torch.from_numpy(MASKS["ln"]), 2, is_attention_chunked=True)
    made |= named("head_mask", {"chunked": chunked})
    model.prune_heads(ONCE)
    made |= named("once", outputs(model, inputs))
    model.prune_heads(TWICE)
    made |= named("twice", outputs(model, inputs))
    if cls is GPT2LMHeadModel:
        tokens = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
        model.generation_config.eos_token_id = None
        greedy = model.generate(**tokens, do_sample=False, max_new_tokens=8, pad_token_id=0)
        made |= named("gen", {"greedy": np.int32(greedy)})
    folder = fresh(f"pruned-{source}")
    model.save_pretrained(folder / "checkpoint")
    save_expected(folder, made, cls.__name__, **torch_versions())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in SOURCES.items():
        make(*case)
