"""Make tests/goldens/vocabulary: what PyTorch's models answer after edits of their vocabulary.

Run by hand where torch is: `python scripts/goldens/files/_goldens_vocabulary.py`. A folder is named
for the golden whose checkpoint is edited; its `expected.safetensors` holds `<edit>.input_ids` and
`<edit>.<output>` for each of the edits

    shrunk   resize_token_embeddings(50)
    grown    resize_token_embeddings(66, pad_to_multiple_of=10); grown.new.* is what was drawn
    set      set_input_embeddings(a `known` table), of 64 tokens if the head is tied
    tied     tie_weights() of an untied model
    headed   set_output_embeddings(a `known` head), the config untied

and `moments.*` of what 4000 new rows and columns are drawn from, over the 1e-9 of the covariance.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _goldens_models import ROOT, call, fresh, save_expected, torch_versions  # noqa: E402

LANGUAGE_MODELS = (
    "bert-masked-lm",
    "bert-untied",
    "gpt2-lm-head",
    "llama-causal-lm",
    "llama-tied",
)
OTHERS = (  # only grown
    "bert-pre-training",
    "gpt2-double-heads",
    "llama-model",
    "llama-question-answering",
)


def known(*shape):
    """Numbers that the tests can make again."""
    return 0.3 * np.sin(np.arange(np.prod(shape)) ** 1.3).astype(np.float32).reshape(shape)


def load(name):
    with safe_open(ROOT / name / "expected.safetensors", "np") as file:
        cls = getattr(transformers, file.metadata()["class"])
    return cls.from_pretrained(ROOT / name / "checkpoint", attn_implementation="eager").eval()


def grown(model):
    model.resize_token_embeddings(66, pad_to_multiple_of=10)


def shrunk(model):
    model.resize_token_embeddings(50)


def set_table(model):
    size = 64 if model.config.tie_word_embeddings else 61
    table = torch.from_numpy(known(size, 24))
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(table))
    model.tie_weights()


def tied(model):
    model.set_output_embeddings(
        model.get_output_embeddings()
    )  # BERT: the bias in use, not the other
    model.config.tie_word_embeddings = True
    model.tie_weights()


def headed(model):
    model.config.tie_word_embeddings = False
    biased = model.get_output_embeddings().bias is not None
    head = torch.nn.Linear(24, 61, bias=biased)
    head.weight.data = torch.from_numpy(known(24, 61)).T.contiguous()
    if biased:
        head.bias.data = torch.from_numpy(known(61))
    model.set_output_embeddings(head)


def answers(model, edit):
    edit(model)
    size = model.get_input_embeddings().weight.shape[0]
    ids = np.array([[3, 49, 7, size - 1, 20, size - 2]], np.int32)
    if "DoubleHeads" in type(model).__name__:
        ids = np.stack([ids, ids[:, ::-1]], axis=1)
    new = {"table": model.get_input_embeddings().weight[61:]} if edit is grown else {}
    if new and (head := model.get_output_embeddings()) is not None:
        new |= {"kernel": head.weight[61:].T}
        new |= {} if head.bias is None else {"bias": head.bias[61:]}
    drawn = {f"new.{name}": tensor.detach().numpy() for name, tensor in new.items()}
    with torch.no_grad():
        return (
            drawn
            | {"input_ids": ids}
            | {k: v.numpy() for k, v in call(model, {"input_ids": ids}).items()}
        )


def moments(name):
    model = load(name)
    model.resize_token_embeddings(4061)
    layers = {"rows": model.get_input_embeddings(), "columns": model.get_output_embeddings()}
    for kind, layer in layers.items():
        new = layer.weight.detach().numpy()[61:].astype(np.float64)
        yield f"moments.{kind}.mean", new.mean(0)
        yield f"moments.{kind}.covariance", np.cov(new.T) / 1e-9


def main():
    torch.set_num_threads(1)
    for name in LANGUAGE_MODELS + OTHERS:
        torch.manual_seed(0)
        model, edits = load(name), {"grown": grown}
        if name in LANGUAGE_MODELS:
            is_tied = model.config.tie_word_embeddings
            edits |= {"shrunk": shrunk, "set": set_table}
            edits |= {"headed": headed} if is_tied else {"tied": tied}
        arrays = dict(moments(name)) if name == "llama-causal-lm" else {}
        for edit, function in edits.items():
            out = answers(load(name), function)
            arrays |= {f"{edit}.{key}": value for key, value in out.items()}
        save_expected(fresh(f"vocabulary/{name}"), arrays, type(model).__name__, **torch_versions())


if __name__ == "__main__":
    main()
