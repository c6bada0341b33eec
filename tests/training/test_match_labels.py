"""Batches told apart into inputs and labels, and what is wrong with them (T28)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _paths import GOLDENS

import flaxmodels as fm
from flaxmodels import training
from flaxmodels.core import outputs

SMALL = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
BART = fm.BartForConditionalGeneration(
    fm.BartConfig(vocab_size=16, d_model=8, pad_token_id=1, decoder_start_token_id=2, **HEADS)
)
LLAMA = fm.LlamaForCausalLM(fm.LlamaConfig(**SMALL))
BERT = fm.BertConfig(**SMALL, num_labels=4)
CLASSIFIER = fm.BertForSequenceClassification(BERT)
ANSWERS, PRETRAINING = fm.BertForQuestionAnswering(BERT), fm.BertForPreTraining(BERT)
ELECTRA = fm.ElectraForPreTraining(fm.ElectraConfig(**SMALL))

IDS = np.array([[3, 4, 5, 6], [7, 8, 9, 1]])
LABELS = np.array([[3, -100, 5, 6], [7, 8, 9, -100]])
LOGITS = np.random.default_rng(0).normal(size=(2, 4, 16)).astype(np.float32)
OUT = outputs.LogitsOutput(logits=LOGITS)


def test_T28_labels_leave_the_inputs():
    batch = {"input_ids": IDS, "attention_mask": np.ones_like(IDS), "labels": LABELS}
    before = dict(batch)
    inputs, labels = training.match_labels(LLAMA, batch)
    assert inputs.keys() == {"input_ids", "attention_mask"} and labels.keys() == {"labels"}
    assert batch == before


@pytest.mark.parametrize(
    ("model", "y", "wanted"),
    [
        (LLAMA, LABELS, {"labels": LABELS}),
        (LLAMA, {"logits": LABELS}, {"labels": LABELS}),
        (ANSWERS, ([1, 2], [2, 3]), {"start_positions": [1, 2], "end_positions": [2, 3]}),
        (
            ANSWERS,
            {"start_position": [1, 2], "end_logits": [2, 3]},
            {"start_positions": [1, 2], "end_positions": [2, 3]},
        ),
        (
            PRETRAINING,
            {"prediction_logits": LABELS, "seq_relationship_logits": [0, 1]},
            {"labels": LABELS, "next_sentence_label": [0, 1]},
        ),
    ],
    ids=["array", "output", "sequence", "tf_names", "outputs"],
)
def test_T28_labels_apart(model, y, wanted):
    for x in (IDS, {"input_ids": IDS}):
        inputs, labels = training.match_labels(model, (x, y))
        np.testing.assert_array_equal(inputs["input_ids"], IDS)
        assert labels.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_array_equal(labels[name], value)


def test_T28_labels_among_inputs_go_first():
    _, labels = training.match_labels(LLAMA, ({"input_ids": IDS, "labels": IDS}, LABELS))
    assert labels["labels"] is IDS


def test_T28_decoder_inputs_follow_from_labels():
    inputs, _ = training.match_labels(BART, {"input_ids": IDS, "labels": LABELS})
    shifted = [[2, 3, 1, 5], [2, 7, 8, 9]]
    np.testing.assert_array_equal(inputs["decoder_input_ids"], shifted)
    own = {"input_ids": IDS, "labels": LABELS, "decoder_input_ids": IDS}
    assert training.match_labels(BART, own)[0]["decoder_input_ids"] is IDS
    other = np.where(LABELS == -100, -1, LABELS)
    batch = {"input_ids": IDS, "labels": other}
    inputs, _ = training.match_labels(BART, batch, ignore_index=-1)
    np.testing.assert_array_equal(inputs["decoder_input_ids"], shifted)


def test_T28_segments_do_not_follow_on_each_other():
    segments = np.array([[1, 1, 2, 2], [1, 1, 1, 0]])
    batch = {"input_ids": IDS, "labels": IDS, "segment_ids": segments}
    inputs, labels = training.match_labels(LLAMA, batch)
    wanted = [[4, -100, 6, -100], [8, 9, -100, -100]]
    np.testing.assert_array_equal(labels["shift_labels"], wanted)
    assert labels.keys() == {"shift_labels"} and "segment_ids" in inputs


def test_T28_labels_that_do_not_count():
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    batch = {"input_ids": IDS, "attention_mask": mask, "labels": IDS % 2}
    assert training.counts(ELECTRA, training.match_labels(ELECTRA, batch)[1]) == {"logits": 5}
    places = {"start_positions": np.array([1, 4]), "end_positions": np.array([-1, 3])}
    _, labels = training.match_labels(ANSWERS, {"input_ids": IDS} | places)
    assert training.counts(ANSWERS, labels) == {"start_logits": 1, "end_logits": 2}


def test_T28_targets_are_at_the_places_of_logits():
    found = training.targets(LLAMA, OUT, {"labels": LABELS})
    labels, logits = found["logits"]
    assert logits is LOGITS
    np.testing.assert_array_equal(labels, [[-100, 5, 6, -100], [8, 9, -100, -100]])


def test_parts_of_microbatches_add_up():
    options = {"label_smoothing": 0.1, "z_loss": 0.01}
    shares = [np.where(np.arange(2)[:, None] == row, LABELS, -100) for row in range(2)]

    @jax.jit
    def run(whole, shares):
        counts = training.counts(LLAMA, {"labels": whole})
        parts = [training.loss_parts(LLAMA, OUT, {"labels": share}, **options) for share in shares]
        total = sum(training.loss_value(part, counts) for part in parts)
        return total, training.loss(LLAMA, OUT, {"labels": whole}, **options), parts

    total, expected, parts = run(LABELS, shares)
    assert [part["logits"].count for part in parts] == [2, 2]
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_reductions_agree():
    given = LLAMA, OUT, {"labels": LABELS}
    each = training.loss(*given, reduction="none")
    assert each.shape == LABELS.shape and np.count_nonzero(each) == 4
    np.testing.assert_allclose(training.loss(*given, reduction="sum"), each.sum(), rtol=1e-6)
    np.testing.assert_allclose(training.loss(*given), each.sum() / 4, rtol=1e-6)
    by_name = training.loss(*given, num_items_in_batch={"logits": 5})
    np.testing.assert_allclose(by_name, each.sum() / 5, rtol=1e-6)


def test_z_loss_and_small_logits():
    x = jnp.asarray(LOGITS, jnp.bfloat16)
    values, counted = training.cross_entropy(x, LABELS, z_loss=0.5)
    wide = np.asarray(x, np.float64)
    log_z = np.log(np.exp(wide).sum(-1))
    label = np.take_along_axis(wide, np.maximum(LABELS, 0)[..., None], -1)[..., 0]
    wanted = np.where(LABELS >= 0, log_z - label + 0.5 * log_z**2, 0)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, wanted, rtol=1e-6)
    np.testing.assert_array_equal(counted, LABELS >= 0)


def test_in_a_trace_wrong_labels_are_nan_and_none_are_zero():
    @jax.jit
    def loss(labels):
        return training.loss(LLAMA, OUT, {"labels": labels})

    assert np.isnan(loss(np.full_like(LABELS, 16))) and np.isnan(loss(np.full_like(LABELS, -1)))
    assert loss(np.full_like(LABELS, -100)) == 0


BATCHES = {
    "no labels": (LLAMA, {"input_ids": IDS}, "no labels in the batch: it takes labels or shift"),
    "no end": (
        ANSWERS,
        {"input_ids": IDS, "start_positions": [1, 2]},
        "no end_positions in the batch: it takes start_positions and end_positions",
    ),
    "of another head": (
        LLAMA,
        {"input_ids": IDS, "start_positions": [1, 2]},
        "LlamaForCausalLM takes no labels called 'start_positions': it takes labels or shift",
    ),
    "no head": (fm.BertModel(BERT), {"input_ids": IDS, "labels": IDS}, "BertModel has no loss"),
    "no input": (LLAMA, {"attention_mask": IDS, "labels": IDS}, "no input_ids in the batch, which"),
    "other examples": (
        CLASSIFIER,
        {"input_ids": IDS, "labels": np.zeros(3, int)},
        r"labels has shape \(3,\), and input_ids \(2, 4\); expected as many examples",
    ),
    "three things": (LLAMA, (IDS, LABELS, IDS), "a batch of 3 things"),
    "a text": (LLAMA, "labels", "a batch of str; expected a dict of arrays"),
    "nothing": (LLAMA, (), "a batch of 0 things"),
    "one row": (LLAMA, {"input_ids": IDS[0], "labels": IDS[0]}, r"shape \(4,\); expected \[B, T"),
    "no names": (ANSWERS, (IDS, LABELS), "without names; expected start_positions and end_pos"),
    "other segments": (
        LLAMA,
        {"input_ids": IDS, "labels": IDS, "segment_ids": IDS[:, :2]},
        r"segment_ids has shape \(2, 2\) and labels \(2, 4\)",
    ),
    "other mask": (
        ELECTRA,
        {"input_ids": IDS, "labels": IDS, "attention_mask": IDS[:, :2]},
        r"attention_mask has shape \(2, 2\) and labels \(2, 4\)",
    ),
}


@pytest.mark.parametrize(("model", "batch", "message"), BATCHES.values(), ids=BATCHES)
def test_T28_wrong_batches_are_refused(model, batch, message):
    with pytest.raises(ValueError, match=message):
        training.match_labels(model, batch)


FLAT = outputs.LogitsOutput(logits=LOGITS[:, 0, :4])
TWO = outputs.PreTrainingOutput(prediction_logits=LOGITS, seq_relationship_logits=LOGITS[:, 0, :2])
NEXT = {"labels": LABELS, "next_sentence_label": [0, 1]}
SCORES = fm.BertForSequenceClassification(BERT.replace(problem_type="regression"))
WRONG = {
    "shape": (LLAMA, OUT, LABELS[:, :3], {}, r"shape \(2, 3\) .* with \(2, 4\); expected int \[B"),
    "floats": (LLAMA, OUT, LABELS * 1.0, {}, "labels is float32; expected classes, int"),
    "range": (LLAMA, OUT, IDS + 10, {}, "labels has 16; expected classes from 0 to 15, or -100"),
    "negative": (CLASSIFIER, FLAT, [0, -1], {}, "labels has -1; expected classes from 0 to 3"),
    "much": (LLAMA, OUT, LABELS, {"label_smoothing": 2}, "is 2; expected a number from 0 to 1"),
    "below": (LLAMA, OUT, LABELS, {"z_loss": -1}, "z_loss is -1; expected a number from 0"),
    "index": (
        LLAMA,
        OUT,
        LABELS,
        {"ignore_index": None},
        "ignore_index is None; expected a whole number",
    ),
    "divided": (LLAMA, OUT, LABELS, {"num_items_in_batch": 0}, "is 0; expected a number above 0"),
    "undivided": (
        *(LLAMA, OUT, LABELS),
        {"num_items_in_batch": 3, "reduction": "sum"},
        "num_items_in_batch divides a mean",
    ),
    "texts": (LLAMA, OUT, np.full((2, 4), "a"), {}, "expected an array of numbers"),
    "class": (type(LLAMA), OUT, LABELS, {}, "takes a model, .*; got the class LlamaForCausalLM"),
    "none": (LLAMA, OUT, LABELS * 0 - 100, {}, "all labels for logits are ignored, -100"),
    "two": (CLASSIFIER, FLAT, [[0, 1], [1, 2]], {}, r"labels has shape \(2, 2\)"),
    "scores": (SCORES, FLAT, [0.5, 1.0], {}, r"expected float \[B, labels\]"),
    "smooth": (SCORES, FLAT, LOGITS[:, 0, :4], {"label_smoothing": 0.1}, "are for classes"),
    "reduction": (LLAMA, OUT, LABELS, {"reduction": "max"}, "reduction is 'max'; expected one"),
    "convention": (LLAMA, OUT, LABELS, {"convention": "jax"}, "convention is 'jax'; expected"),
    "in_tf": (ELECTRA, OUT, LABELS, {"convention": "tf"}, "has no loss in TensorFlow"),
    "one_number": (PRETRAINING, TWO, NEXT, {"num_items_in_batch": 5}, "a number for each of"),
    "numbers": (LLAMA, OUT, LABELS, {"num_items_in_batch": {"x": 5}}, "has the parts"),
    "none_of_two": (PRETRAINING, TWO, NEXT, {"reduction": "none"}, "would add up values of shapes"),
}


@pytest.mark.parametrize(("model", "out", "labels", "more", "message"), WRONG.values(), ids=WRONG)
def test_wrong_labels_are_refused(model, out, labels, more, message):
    labels = labels if isinstance(labels, dict) else {"labels": np.asarray(labels)}
    with pytest.raises((ValueError, TypeError), match=message):
        training.loss(model, out, labels, **more)


def test_labels_have_names_and_counts_are_of_all_parts():
    with pytest.raises(ValueError, match=r"labels are a ndarray; expected .* {'shift_labels': arr"):
        training.loss(LLAMA, OUT, LABELS)
    parts = {"logits": training.Part(np.float32(1), 2)}
    with pytest.raises(ValueError, match="counts are for other, and the loss has a part 'logits'"):
        training.loss_value(parts, {"other": 1})


@pytest.mark.parametrize(
    ("labels", "more", "error", "message"),
    [
        (LABELS * 1.0, {}, TypeError, "labels are float32; expected integers"),
        (LABELS[:, :1], {}, ValueError, r"labels have shape \(2, 1\), and logits \(2, 4, 16\)"),
        (LABELS, {"label_smoothing": 3}, ValueError, "is 3; expected a number from 0 to 1"),
    ],
)
def test_what_is_no_cross_entropy_is_refused(labels, more, error, message):
    with pytest.raises(error, match=message):
        training.cross_entropy(LOGITS, labels, **more)


def test_small_unsigned_labels_are_classes_too():
    """-100 as an unsigned byte would be the class 156."""
    logits, labels = np.zeros((2, 200), np.float32), np.array([156, 3])
    values, counted = training.cross_entropy(logits, labels.astype(np.uint8))
    assert counted.all() and (values > 0).all()


def test_problem_type_given_to_a_load_acts():
    folder = GOLDENS / "bert-sequence-classification" / "checkpoint"
    load = fm.BertForSequenceClassification.from_pretrained
    model, _ = load(folder, problem_type="multi_label_classification")
    logits = np.ones((2, model.config.num_labels), np.float32)
    labels = {"labels": np.ones_like(logits, int)}
    value = training.loss(model, outputs.LogitsOutput(logits=logits), labels)
    np.testing.assert_allclose(value, np.log1p(np.exp(-1)), rtol=1e-6)


def test_T7_unknown_problems_and_kinds_are_refused():
    odd = fm.BertForSequenceClassification(BERT.replace(problem_type="ranking"))
    with pytest.raises(ValueError, match="problem_type is 'ranking'; expected one of regression"):
        training.loss(odd, FLAT, {"labels": np.array([0, 1])})

    class Mine(fm.LlamaForCausalLM):
        loss_kind = "mine"

    with pytest.raises(ValueError, match=r"Mine.loss_kind is 'mine'; expected one of \['causal"):
        training.loss(Mine(LLAMA.config), OUT, {"labels": LABELS})
