"""The README's snippets run, from the top, in one process; the Hub's with a loopback Hub; and so do
those of docs/migration.md."""

import os
import re
import shutil
from pathlib import Path

import _children
import pytest
from _paths import GOLDENS, ROOT
from _weights import uniform
from loopback.client import hub_environment

import flaxmodels as fm
from flaxmodels import params as fp

README = (ROOT / "README.md").read_text()
MIGRATION = (ROOT / "docs" / "migration.md").read_text()
HUB = re.search(r"\n## From and to the Hub\n.*?(?=\n## )", README, re.DOTALL)


def run(text: str, tmp_path: Path, *options: str, **environment: str) -> str:
    """What the snippets of a text print."""
    script = tmp_path / "readme.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
    result = _children.run(*options, script, cwd=tmp_path, env=os.environ | environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_snippets_run(tmp_path):
    assert HUB is not None and README.count("```python") == 7
    end = "```python\nassert shapes.keys() == params.keys() and logits.shape[-1] == 256\n```"
    printed = run(README.replace(HUB[0], "") + end, tmp_path, "-W", "error")
    assert "The import statement " in printed and "load plan of saved" in printed
    assert len(list((tmp_path / "saved-half").glob("*.safetensors"))) == 3
    (picture,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert picture in printed


def test_snippets_of_the_hub_run(hub, tmp_path):
    assert HUB is not None
    folder = Path(fm.bundled_checkpoint())
    hub.commit("org/name", {path.name: path.read_bytes() for path in folder.iterdir()})
    said = run(HUB[0], tmp_path, HF_TOKEN="hf_write", **hub_environment(hub, tmp_path))
    assert hub.head("org/name-bf16") in said
    assert "model.safetensors" in hub.files("org/name-bf16")


TOKENIZERS = {
    "bundled": Path(fm.bundled_checkpoint()),
    "google-bert/bert-base-uncased": GOLDENS / "tokenizers" / "wordpiece",
}


def tiny_models():
    """Models of one layer, without dropout, under the names that the page loads."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 24, "max_position_embeddings": 64}
    encoder = sizes | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    bart = {"d_model": 16, "max_position_embeddings": 64, "dropout": 0.0}
    for half in ("encoder", "decoder"):
        bart |= {f"{half}_layers": 1, f"{half}_attention_heads": 2, f"{half}_ffn_dim": 24}
    llama = fm.LlamaConfig(**sizes, vocab_size=256, num_key_value_heads=2)
    return {
        "bundled": fm.LlamaForCausalLM(llama),
        "google-bert/bert-base-uncased": fm.BertForMaskedLM(
            fm.BertConfig(**encoder, vocab_size=704)
        ),
        "FacebookAI/roberta-large-mnli": fm.RobertaForSequenceClassification(
            fm.RobertaConfig(**encoder, vocab_size=256, num_labels=3)
        ),
        "google-t5/t5-small": fm.T5ForConditionalGeneration(
            fm.T5Config(**t5, vocab_size=256, dropout_rate=0.0, decoder_start_token_id=0)
        ),
        "facebook/bart-large-cnn": fm.BartForConditionalGeneration(
            fm.BartConfig(**bart, vocab_size=256)
        ),
    }


TINY = """```python
import warnings
import flaxmodels, jax, numpy

def traced(f, **how):
    zeros = lambda x: jax.device_put(numpy.zeros(x.shape, x.dtype))
    shapes = jax.jit(f, **how).eval_shape if how or not hasattr(f, "eval_shape") else f.eval_shape
    return lambda *args, **given: jax.tree.map(zeros, shapes(*args, **given))

from flaxmodels.generation import generate
generate.decode = traced(generate.decode)

flaxmodels.bundled_checkpoint = lambda: "bundled"
halves = "Weights from .*(BertModel|BertLMHeadModel|EncoderDecoderModel)"
warnings.filterwarnings("ignore", halves)  # the decoder attends to an encoder, which is new to it
```
"""


@pytest.mark.soak
def test_D39_snippets_of_the_migration_page_run(tmp_path):
    """Where the page names checkpoints, there are tiny ones of one layer, whose weights no program
    has drawn; its own functions, and generation, are traced and not compiled: they return
    zeros."""
    for name, model in tiny_models().items():
        shapes = fp.flatten(model.abstract_params())
        params = {path: 0.1 * uniform(path, leaf.shape) for path, leaf in shapes.items()}
        model.save_pretrained(fp.unflatten(params), tmp_path / name, progress=False)
        for path in TOKENIZERS[name].glob("tokenizer*") if name in TOKENIZERS else ():
            shutil.copy(path, tmp_path / name)
    said = run(TINY + MIGRATION.replace("jax.jit", "traced"), tmp_path, "-W", "error")
    assert "[] []" in said and "(1, 4, 256)" in said and "loss " in said


def test_D39_the_migration_page_names_what_there_is():
    """Whatever it says of `fm`, `fp` and `fs` is there."""
    rooms = {"fm": fm, "fp": fm.params, "fs": fm.sharding}
    named = re.findall(r"\b(f[mps])\.(\w+)", MIGRATION)
    assert len(named) > 25
    for room, name in named:
        assert hasattr(rooms[room], name), f"{room}.{name}"
