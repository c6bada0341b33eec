"""Make the goldens under tests/goldens/flax with the Flax classes of Transformers 4.

Run by hand; rewrites what it is asked for, the same every time:

    python scripts/goldens/models/make_flax_goldens.py [FAMILY ...]

Last run with Python 3.11.7, transformers 4.53.3, jax 0.4.13, flax 0.7.0, numpy 1.26.4. Configs
and inputs are those of `tests/families`, weights those of `_weights.py` by the paths of the
leaves: a golden holds none. `<model_type>.json` has the versions, the inputs, and of each class its
config.json and {path with dots: shape}; `<model_type>.safetensors` the outputs, `<class>.<output>`.
"""

import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import _families as families
import flax
import jax
import numpy as np
import transformers
from _weights import weights
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "flax"
LM = ("Model", "ForCausalLM")
SEQ2SEQ = ("Model", "ForConditionalGeneration")
LABELS = ("ForSequenceClassification", "ForQuestionAnswering")
READS = ("ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice")
READS += ("ForTokenClassification", "ForQuestionAnswering")
CLASSES = (
    {
        "bert": [
            f"Bert{head}"
            for head in (
                *LM,
                "ForPreTraining",
                "ForMaskedLM",
                "ForNextSentencePrediction",
                "ForSequenceClassification",
                "ForMultipleChoice",
                "ForTokenClassification",
                "ForQuestionAnswering",
            )
        ],
        "gpt2": ["GPT2Model", "GPT2LMHeadModel"],
        "t5": [f"T5{head}" for head in (*SEQ2SEQ, "EncoderModel")],
        "mt5": [f"MT5{head}" for head in (*SEQ2SEQ, "EncoderModel")],
        "longt5": [f"LongT5{head}" for head in SEQ2SEQ],
        "bart": [f"Bart{head}" for head in (*SEQ2SEQ, *LABELS, "ForCausalLM")],
        "mbart": [f"MBart{head}" for head in (*SEQ2SEQ, *LABELS)],
        "marian": ["MarianModel", "MarianMTModel"],
        "pegasus": [f"Pegasus{head}" for head in SEQ2SEQ],
        "blenderbot": [f"Blenderbot{head}" for head in SEQ2SEQ],
        "blenderbot-small": [f"BlenderbotSmall{head}" for head in SEQ2SEQ],
        "encoder-decoder": ["EncoderDecoderModel"],
    }
    | {
        model_type: [prefix + head for head in (*more, *READS)]
        for model_type, prefix, more in (
            ("albert", "Albert", ("Model", "ForPreTraining")),
            ("big_bird", "BigBird", ("Model", "ForPreTraining", "ForCausalLM")),
            ("distilbert", "DistilBert", ("Model",)),
            ("electra", "Electra", ("Model", "ForPreTraining", "ForCausalLM")),
            ("roberta", "Roberta", LM),
            ("roberta-prelayernorm", "RobertaPreLayerNorm", LM),
            ("roformer", "RoFormer", ("Model",)),
            ("xlm-roberta", "XLMRoberta", LM),
        )
    }
    | {
        model_type: [prefix + head for head in LM]
        for model_type, prefix in {
            "bloom": "Bloom",
            "gemma": "Gemma",
            "gpt_neo": "GPTNeo",
            "gptj": "GPTJ",
            "llama": "Llama",
            "mistral": "Mistral",
            "opt": "OPT",
            "xglm": "XGLM",
        }.items()
    }
)
CHANGED = {
    "BertForCausalLM": {"is_decoder": True},
    "AlbertForPreTraining": {"num_labels": 2},  # what it has whatever the config says
    "BigBirdForCausalLM": {"is_decoder": True},
    "BigBirdForTokenClassification": {
        "attention_type": "block_sparse",
        "block_size": 1,
        "num_random_blocks": 1,
    },
    "ElectraForCausalLM": {"is_decoder": True},
    "RobertaForCausalLM": {"is_decoder": True},
    "RobertaPreLayerNormForCausalLM": {"is_decoder": True},
    "XLMRobertaForCausalLM": {"is_decoder": True},
    "MT5ForConditionalGeneration": {"tie_word_embeddings": False},
    "MBartForConditionalGeneration": {"tie_word_embeddings": False},
    "roformer": {"embedding_size": 24},  # which it does not read
    # Old Flax has a window of one token more than PyTorch has: one that holds all tells nothing.
    # It has heads of hidden_size / num_attention_heads, whatever head_dim says.
    "mistral": {"sliding_window": 16, "head_dim": 6},
    "encoder-decoder": {
        "decoder": {
            "model_type": "gpt2",
            "vocab_size": 61,
            "n_embd": 20,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 64,
            "is_decoder": True,
            "add_cross_attention": True,
        }
    },
}
"""Model type or class -> keys of the config that it needs."""
OUTPUTS = (
    "last_hidden_state pooler_output logits start_logits end_logits prediction_logits "
    "seq_relationship_logits sop_logits"
).split()


def main() -> None:
    ROOT.mkdir(exist_ok=True)
    for model_type in sys.argv[1:] or CLASSES:
        table = families.load(model_type)
        inputs = families.make_inputs(table)["padded"]
        golden = {"versions": versions(), "inputs": inputs, "classes": {}}
        arrays = {}
        for name in CLASSES[model_type]:
            config = table.config_of(name) | CHANGED.get(model_type, {}) | CHANGED.get(name, {})
            golden["classes"][name], found = run(name, config, families.for_class(name, inputs))
            arrays |= found
        (ROOT / f"{model_type}.json").write_text(families.text_of(golden))
        save_file(arrays, ROOT / f"{model_type}.safetensors")
        print(f"{model_type}: {len(golden['classes'])} classes", flush=True)


def versions() -> dict[str, str]:
    found = {module.__name__: module.__version__ for module in (jax, flax, transformers, np)}
    return {"python": platform.python_version(), **found}


def run(
    name: str, config: dict[str, Any], inputs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The config.json and shapes of a class, and what it puts out."""
    cls = getattr(transformers, f"Flax{name}")
    values = {key: value for key, value in config.items() if key != "architectures"}
    model = cls(cls.config_class(**values))
    flat = flax.traverse_util.flatten_dict(model.params, sep=".")
    shapes = {path: list(flat[path].shape) for path in sorted(flat)}
    params = flax.traverse_util.unflatten_dict(weights(shapes), sep=".")
    out = model(**families.arrays_of(inputs), params=params)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, params=params)
        written = json.loads(Path(folder, "config.json").read_text())
    there = {key: np.array(out[key]) for key in OUTPUTS if out.get(key) is not None}
    return (
        {"config": written, "tensors": shapes},
        {f"{name}.{key}": array for key, array in there.items()},
    )


if __name__ == "__main__":
    main()
