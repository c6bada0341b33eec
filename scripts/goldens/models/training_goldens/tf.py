"""Makes tests/goldens/training/tf_losses.safetensors: losses of Transformers' TensorFlow classes.

    python scripts/goldens/models/training_goldens/tf.py

Run by hand, with Python 3.11, tensorflow 2.18.1 (CPU), tf_keras 2.18 and transformers 4.53.3, the
last that has them. Every case is a tiny model; its note has the `class` and the `config`, and its
arrays are

    x.*, y.*      inputs and labels apart, as Keras has them; `y` alone is an array
    output.*      what the model made of them: logits
    loss          what `hf_compute_loss` returned, as it is in the output
    test_step     the loss that `test_step((x, y))` returns, of a model that `compile()` left the
                  choice of the loss to
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import transformers
from safetensors.numpy import save_file
from shapes import B, T, V, config_of

FILE = Path(__file__).resolve().parents[4] / "tests/goldens/training/tf_losses.safetensors"

rng = np.random.default_rng(18)
IDS = rng.integers(3, V, (B, T))
TOKENS = np.where(rng.random((B, T)) < 0.4, -100, rng.integers(1, V, (B, T)))
SPOKEN = rng.integers(3, V, (B, T)) * np.array([[1] * 6, [1] * 4 + [0] * 2, [1] * 5 + [0]])
TAGS = np.where(rng.random((B, T)) < 0.6, rng.integers(0, 4, (B, T)), -1)
TAGS[0, 0] = -100
FLOATS = rng.normal(size=B).astype("float32")
FOUR = {"num_labels": 4}
ORDER = np.array([1, 0, 0])


class Case(NamedTuple):
    head: str
    y: Any
    config: dict[str, Any] = {}
    ids: np.ndarray = IDS


CASES = {
    "causal": Case("GPT2LMHeadModel", TOKENS),
    "causal_bert": Case("BertLMHeadModel", TOKENS, {"is_decoder": True}),
    "masked": Case("BertForMaskedLM", {"labels": TOKENS}),
    "seq2seq_t5": Case("T5ForConditionalGeneration", {"labels": SPOKEN}),
    "seq2seq_bart": Case("BartForConditionalGeneration", {"labels": SPOKEN}),
    "sequence": Case("BertForSequenceClassification", np.array([2, 0, 3]), FOUR),
    "sequence_score": Case("BertForSequenceClassification", FLOATS, {"num_labels": 1}),
    "sequence_deberta": Case("DebertaForSequenceClassification", np.array([2, 0, 3]), FOUR),
    "tags": Case("BertForTokenClassification", {"labels": TAGS}, FOUR),
    "answers": Case(
        "BertForQuestionAnswering",
        {"start_positions": np.array([0, 2, 5]), "end_positions": np.array([4, 5, 5])},
    ),
    "answers_by_output": Case(
        "BertForQuestionAnswering",
        {"start_logits": np.array([0, 2, 5]), "end_logits": np.array([4, 5, 5])},
    ),
    "choices": Case(
        "BertForMultipleChoice", np.array([1, 0, 1]), {}, np.stack([IDS, IDS[:, ::-1]], 1)
    ),
    "next_sentence": Case(
        "BertForNextSentencePrediction", {"next_sentence_label": np.array([1, -100, 0])}
    ),
    "pretraining": Case("BertForPreTraining", {"labels": TOKENS, "next_sentence_label": ORDER}),
    "pretraining_order": Case(
        "AlbertForPreTraining", {"prediction_logits": TOKENS, "sop_logits": ORDER}
    ),
}


def main() -> None:
    arrays, notes = {}, {}
    for name, case in CASES.items():
        made, config = run(case)
        arrays |= {f"{name}/{key}": np.ascontiguousarray(x) for key, x in made.items()}
        notes[name] = {"class": case.head, "config": config}
    versions = {"tensorflow": tf.__version__, "transformers": transformers.__version__}
    save_file(arrays, FILE, versions | {"cases": json.dumps(notes, sort_keys=True)})
    print(f"{len(arrays)} arrays, {FILE.stat().st_size / 1e3:.1f} KB")


def run(case: Case) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    cls = getattr(transformers, f"TF{case.head}")
    model = cls(cls.config_class(**(config_of(case.head) | case.config)))
    x = {"input_ids": tf.constant(case.ids, tf.int32)}
    if case.head.startswith(("Bart", "T5")):
        model(x, decoder_input_ids=x["input_ids"])  # builds it
    else:
        model(x)
    draw = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(draw.normal(scale=0.7, size=weight.shape))
    y = tf.nest.map_structure(tf.constant, case.y)
    labels = y if isinstance(y, dict) else {"labels": y}
    renamed = {out: name for name, out in model.get_label_to_output_name_mapping().items()}
    out = model(x | {renamed.get(name, name): array for name, array in labels.items()})
    model.compile()
    step = model.test_step((x, y))
    made = {f"x.{name}": array.numpy() for name, array in x.items()}
    made |= {f"y.{name}": array.numpy() for name, array in y.items()} if y is labels else {}
    made |= {} if y is labels else {"y": y.numpy()}
    made |= {f"output.{name}": array.numpy() for name, array in out.items() if "logits" in name}
    made |= {"loss": out.loss.numpy(), "test_step": step["loss"].numpy()}
    return made, model.config.to_diff_dict()


if __name__ == "__main__":
    main()
