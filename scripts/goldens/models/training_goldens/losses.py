"""Golden losses of Transformers' heads, for `make_training_goldens.py`.

Every case is a tiny model that was run with labels. Its note has the `class`, the `config`, and the
`options` of the loss; its arrays are

    batch.*       what the model was given, labels among it
    output.*      what it made: logits
    loss          the loss; `grad.<output>` its gradients
    decoder_input_ids   what `prepare_decoder_input_ids_from_labels` makes of the labels

and of CTC `logits`, `labels`, `lengths`, `loss`, `grad`.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from training_goldens.shapes import B, T, V, config_of
from transformers.loss.loss_ctc import ForCTCLoss
from transformers.trainer_pt_utils import LabelSmoother

rng = np.random.default_rng(18)
IDS = rng.integers(3, V, (B, T))
MASK = np.array([[1] * 6, [1] * 4 + [0] * 2, [1] * 5 + [0]])
TOKENS = np.where(rng.random((B, T)) < 0.4, -100, rng.integers(1, V, (B, T)))
TOKENS[0, :2] = 5, 0
TARGETS = np.where(MASK == 1, rng.integers(3, V, (B, T)), -100)
SPOKEN = np.where(MASK == 1, rng.integers(3, V, (B, T)), 0)  # padding among labels
TAGS = np.where(MASK == 1, rng.integers(0, 4, (B, T)), -100)
START, END = np.array([0, 7, -3]), np.array([4, 5, 6])
FLOATS = rng.normal(size=(B, 4)).astype("float32")
SEVERAL = rng.integers(0, 2, (B, 4)).astype("float32")
SHARES = rng.dirichlet(np.ones(4), B).astype("float32")
CLASSES = np.array([2, -100, 3])


class Case(NamedTuple):
    head: str
    labels: dict[str, np.ndarray]
    config: dict[str, Any] = {}
    given: dict[str, Any] = {}
    options: dict[str, Any] = {}


def labels(array: np.ndarray, name: str = "labels") -> dict[str, np.ndarray]:
    return {name: array}


FOUR = {"num_labels": 4}
REGRESSION, ONE, MANY = (
    {"problem_type": name}
    for name in ("regression", "single_label_classification", "multi_label_classification")
)
MASKED = {"attention_mask": MASK}
CHOICES = np.stack([IDS, IDS[:, ::-1]], axis=1)
ANSWERS = {"start_positions": START, "end_positions": END}
ITEMS, SMOOTH = {"num_items_in_batch": 7}, {"label_smoothing": 0.1}

CASES = {
    "causal": Case("LlamaForCausalLM", labels(TOKENS)),
    "causal_items": Case("LlamaForCausalLM", labels(TOKENS), options=ITEMS),
    "causal_shifted": Case("LlamaForCausalLM", labels(TOKENS, "shift_labels")),
    "causal_smooth": Case("LlamaForCausalLM", labels(TOKENS), options=SMOOTH),
    "causal_smooth_items": Case("LlamaForCausalLM", labels(TOKENS), options=SMOOTH | ITEMS),
    "causal_gpt2": Case("GPT2LMHeadModel", labels(TOKENS)),
    "causal_bert": Case("BertLMHeadModel", labels(TOKENS), {"is_decoder": True}),
    "unshifted": Case("BartForCausalLM", labels(TOKENS)),
    "double_lm": Case("GPT2DoubleHeadsModel", labels(np.stack([TOKENS, TOKENS], 1))),
    "double_choice": Case("GPT2DoubleHeadsModel", labels(np.array([1, 0, 1]), "mc_labels")),
    "masked": Case("BertForMaskedLM", labels(TOKENS)),
    "masked_smooth": Case("BertForMaskedLM", labels(TOKENS), options=SMOOTH),
    "masked_modern": Case("ModernBertForMaskedLM", labels(TOKENS), options=ITEMS),
    "seq2seq_t5": Case("T5ForConditionalGeneration", labels(TARGETS)),
    "seq2seq_smooth": Case("T5ForConditionalGeneration", labels(TARGETS), options=SMOOTH),
    "seq2seq_bart": Case("BartForConditionalGeneration", labels(SPOKEN)),
    "seq2seq_mbart": Case("MBartForConditionalGeneration", labels(TARGETS)),
    "sequence_one": Case("BertForSequenceClassification", labels(CLASSES), FOUR),
    "sequence_column": Case("BertForSequenceClassification", labels(CLASSES[:, None]), FOUR),
    "sequence_smooth": Case("BertForSequenceClassification", labels(CLASSES), FOUR, {}, SMOOTH),
    "sequence_score": Case(
        "BertForSequenceClassification", labels(FLOATS[:, 0]), {"num_labels": 1}
    ),
    "sequence_score_integer": Case(
        "BertForSequenceClassification", labels(np.array([[1], [5], [2]])), {"num_labels": 1}
    ),
    "sequence_scores": Case("BertForSequenceClassification", labels(FLOATS), FOUR | REGRESSION),
    "sequence_several": Case("BertForSequenceClassification", labels(SEVERAL), FOUR),
    "sequence_several_said": Case("BertForSequenceClassification", labels(SEVERAL), FOUR | MANY),
    "sequence_one_said": Case("BertForSequenceClassification", labels(CLASSES), FOUR | ONE),
    "sequence_llama": Case("LlamaForSequenceClassification", labels(CLASSES), FOUR),
    "distribution": Case("DebertaV2ForSequenceClassification", labels(SHARES), FOUR),
    "distribution_class": Case("DebertaV2ForSequenceClassification", labels(CLASSES), FOUR),
    "distribution_floats": Case(
        "DebertaV2ForSequenceClassification", labels(np.array([1.0, -1.0, 3.0])), FOUR
    ),
    "distribution_score": Case(
        "DebertaV2ForSequenceClassification", labels(FLOATS[:, 0]), {"num_labels": 1}
    ),
    "distribution_said": Case("DebertaV2ForSequenceClassification", labels(SEVERAL), FOUR | MANY),
    "tags": Case("BertForTokenClassification", labels(TAGS), FOUR),
    "tags_smooth": Case("BertForTokenClassification", labels(TAGS), FOUR, {}, SMOOTH),
    "tags_llama": Case("LlamaForTokenClassification", labels(TAGS), FOUR),
    "tags_unpadded": Case(
        "XLMRobertaXLForTokenClassification", labels(np.abs(TAGS) % 4), FOUR, MASKED
    ),
    "answers": Case("BertForQuestionAnswering", ANSWERS),
    "answers_column": Case(
        "BertForQuestionAnswering", {name: x[:, None] for name, x in ANSWERS.items()}
    ),
    "answers_items": Case("LlamaForQuestionAnswering", ANSWERS, options=ITEMS),
    "choices": Case("BertForMultipleChoice", labels(np.array([1, 0, 1]))),
    "next_sentence": Case("BertForNextSentencePrediction", labels(np.array([1, -100, 0]))),
    "pretraining": Case(
        "BertForPreTraining", labels(TOKENS) | {"next_sentence_label": np.array([1, 0, 0])}
    ),
    "pretraining_masked": Case("BigBirdForPreTraining", labels(TOKENS)),
    "pretraining_order": Case(
        "AlbertForPreTraining", labels(TOKENS) | {"sentence_order_label": np.array([1, 0, 0])}
    ),
    "replaced": Case("ElectraForPreTraining", labels(MASK * (IDS % 2))),
    "replaced_unpadded": Case("ElectraForPreTraining", labels(IDS % 2), {}, MASKED),
}


def make() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays: dict[str, np.ndarray] = {}
    notes: dict[str, Any] = {}
    for name, case in CASES.items():
        made, config = run(case)
        arrays |= {f"{name}/{key}": value for key, value in made.items()}
        notes[name] = {"class": case.head, "config": config, "options": case.options}
    for name, options in CTC.items():
        arrays |= {f"{name}/{key}": value for key, value in ctc(options).items()}
        notes[name] = {"options": options}
    return arrays, notes


def run(case: Case) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    torch.manual_seed(0)
    cls = getattr(transformers, case.head)
    config = cls.config_class(**(config_of(case.head) | {"pad_token_id": 0} | case.config))
    model = cls(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    several = "MultipleChoice" in case.head or "DoubleHeads" in case.head
    batch = {"input_ids": CHOICES if several else IDS, **case.given, **case.labels}
    given = {name: torch.as_tensor(np.array(array)) for name, array in batch.items()}
    options = dict(case.options)
    smoothing = options.pop("label_smoothing", None)
    if "shift_labels" in given:
        given["labels"] = given["shift_labels"]
    out = model(**given, **options)
    logits = {name: x for name, x in out.items() if "logits" in name}
    if smoothing is not None:
        shift = case.head.endswith(("CausalLM", "LMHeadModel"))
        smoother = LabelSmoother(smoothing)
        loss = smoother(dict(logits), given["labels"], shift_labels=shift, **options)
    else:
        loss = out["mc_loss"] if "mc_labels" in given else out["loss"]
    compared = {name: x for name, x in logits.items() if reaches(loss, x)}
    grads = torch.autograd.grad(loss, [*compared.values()])
    made = {f"batch.{name}": array for name, array in batch.items()}
    made |= {f"output.{name}": x.detach().numpy() for name, x in logits.items()}
    made |= {f"grad.{name}": g.numpy() for name, g in zip(compared, grads, strict=True)}
    made["loss"] = loss.detach().numpy()
    if "labels" in given and hasattr(model, "prepare_decoder_input_ids_from_labels"):
        ids = model.prepare_decoder_input_ids_from_labels(given["labels"])
        made["decoder_input_ids"] = ids.numpy()
    return made, config.to_diff_dict()


def reaches(loss: torch.Tensor, x: torch.Tensor) -> bool:
    return torch.autograd.grad(loss, x, retain_graph=True, allow_unused=True)[0] is not None


CTC = {
    "ctc_mean": {"reduction": "mean", "zero_infinity": False},
    "ctc_sum": {"reduction": "sum", "zero_infinity": False},
    "ctc_none": {"reduction": "none", "zero_infinity": False},
    "ctc_infinite": {"reduction": "none", "zero_infinity": False, "short": True},
    "ctc_zeroed": {"reduction": "mean", "zero_infinity": True, "short": True},
}
"""Cases of CTC; `short`: one of the examples has more labels than frames."""
SPELLED = np.array([[1, 1, 2, -100], [3, -100, -100, -100], [4, 2, 4, 4], [-100] * 4])


def ctc(options: dict[str, Any]) -> dict[str, np.ndarray]:
    frames = np.random.default_rng(4).normal(size=(4, 9, 6)).astype("float32") * 2
    lengths = np.array([9, 5, 4 if options.get("short") else 7, 3])
    logits = torch.tensor(frames, requires_grad=True)
    loss = ForCTCLoss(
        logits,
        torch.tensor(SPELLED),
        torch.tensor(lengths),
        blank_token_id=0,
        reduction=options["reduction"],
        zero_infinity=options["zero_infinity"],
    )
    (grad,) = torch.autograd.grad(torch.where(torch.isfinite(loss), loss, 0).sum(), logits)
    return {
        "logits": frames,
        "labels": SPELLED,
        "lengths": lengths,
        "loss": loss.detach().numpy(),
        "grad": grad.numpy(),
    }
