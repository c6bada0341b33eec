"""What batches hold: columns of every kind of dataset, texts, labels; and what is refused."""

import json
import re

import jax
import numpy as np
import pytest
from _datasets import Iterating, Mapped, Table, bert, llama, rows_of, same, words
from _paths import GOLDENS

import flaxmodels as fm
from flaxmodels.data import prepare

IN_ORDER = {"shuffle": False, "batch_size": 4}


def arrays(count=10, length=5):
    ids = 1 + np.arange(count * length).reshape(count, length) % 63
    return {"input_ids": ids, "label": np.arange(count) % 3, "idx": np.arange(count)}


def columns_of(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_T17_columns_that_the_model_does_not_take_are_dropped():
    given = arrays() | {"token_type_ids": np.zeros((10, 5), int), "sentence": ["a"] * 10}
    batches = bert(num_labels=3).prepare_dataset(given, **IN_ORDER)
    assert batches.columns == ("input_ids", "label", "token_type_ids")
    assert batches.dropped == ("idx", "sentence")
    made = list(batches)
    assert [len(batch["labels"]) for batch in made] == [4, 4, 2] and len(batches) == 3
    assert {name: (x.shape, x.dtype) for name, x in made[0].items()} == {
        "labels": ((4,), np.int32),
        "input_ids": ((4, 5), np.int32),
        "token_type_ids": ((4, 5), np.int32),
    }
    np.testing.assert_array_equal(made[1]["input_ids"], given["input_ids"][4:8])
    kept = llama().prepare_dataset(given, **IN_ORDER, columns=("idx",))
    assert "token_type_ids" in kept.dropped and set(next(iter(kept))) == {
        *("input_ids", "labels", "idx")
    }


@pytest.mark.parametrize(
    "name, labels",
    [
        ("ForQuestionAnswering", {"start_positions", "end_positions"}),
        ("ForNextSentencePrediction", {"labels", "next_sentence_label"}),
        ("ForPreTraining", {"labels", "next_sentence_label"}),
        ("ForTokenClassification", {"labels"}),
        ("Model", {"labels", "start_positions", "end_positions", "next_sentence_label"}),
    ],
)
def test_T17_labels_are_those_of_the_loss(name, labels):
    scalar = np.zeros(4, int)
    given = {"input_ids": np.ones((4, 3), int), "labels": np.zeros((4, 3), int)}
    given |= dict.fromkeys(("start_positions", "end_positions", "next_sentence_label"), scalar)
    (batch,) = bert(name).prepare_dataset(given, **IN_ORDER)
    assert batch.keys() == {"input_ids", *labels}


def test_T17_every_kind_of_dataset_gives_the_same_batches(tmp_path):
    rows = rows_of(11)
    for row in rows:
        row["label"] = 1
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, rows[:6])))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[6:]))
    model, how = bert(), {"lengths": (32,), **IN_ORDER}
    expected = list(model.prepare_dataset(rows, **how))
    assert len(expected) == 3 and expected[0]["input_ids"].shape == (4, 32)
    iterating = Iterating(rows)
    for dataset in (
        columns_of(rows),
        Table(columns_of(rows)),
        Mapped(rows),
        [tmp_path / "a.jsonl", tmp_path / "b.jsonl"],
        iterating,
        lambda: iter(rows),
        iter(rows),
    ):
        same(list(model.prepare_dataset(dataset, **how)), expected)
    assert iterating.epochs == [0]


def test_T17_a_generator_gives_one_epoch():
    batches = llama().prepare_dataset(iter(rows_of(4)), lengths=(32,), **IN_ORDER)
    assert len(list(batches)) == 1
    with pytest.raises(ValueError, match="give a function that makes it"):
        next(iter(batches))
    with pytest.raises(TypeError, match="is a stream"):
        len(batches)


def test_T17_texts_are_tokenised_and_cut(tmp_path):
    (tmp_path / "a.txt").write_text("one three\r\n\n  \nfive a bb ccc\n")
    model = llama()
    (batch,) = model.prepare_dataset(
        tmp_path / "a.txt", tokenizer=words, max_length=3, batch_size=2, shuffle=False
    )
    assert batch["input_ids"].tolist() == [[3, 5, 0], [4, 1, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [[3, 5, -100], [4, 1, 2]]
    pairs = [{"a": "x yy", "b": "zzz", "label": 1}]
    (batch,) = bert().prepare_dataset(
        pairs, tokenizer=words, text=("a", "b"), batch_size=1, shuffle=False
    )
    assert batch["input_ids"].tolist() == [[1, 2, 63, 3]] and batch["labels"].tolist() == [1]


def test_T17_a_loaded_tokenizer_pads_on_its_side():
    tok = fm.load_tokenizer(fm.bundled_checkpoint())
    model = llama(vocab_size=256)
    texts = ["a text", "one that is longer"]
    (batch,) = model.prepare_dataset(texts, 2, False, tok)
    expected = tok(texts)
    assert tok.padding_side == "left"
    for name, x in expected.items():
        np.testing.assert_array_equal(batch[name], x)
    assert batch["position_ids"][0].tolist() == [0] * 12 + [*range(6)]
    assert batch["labels"][0, :12].tolist() == [-100] * 12
    tok.padding_side = "right"
    (batch,) = model.prepare_dataset(texts, 2, False, tok)
    assert "position_ids" not in batch and batch["attention_mask"][0].tolist() == [1] * 6 + [0] * 12


def test_T17_labels_of_a_decoder_are_tokenised_and_padded():
    config = fm.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    model = fm.T5ForConditionalGeneration(config)
    given = {"text": ["a bb", "a"], "say": ["ccc", "a bb ccc dddd"]}
    (batch,) = model.prepare_dataset(given, 2, False, words, target="say")
    assert batch["labels"].tolist() == [[3, -100, -100, -100], [1, 2, 3, 4]]
    assert batch["input_ids"].tolist() == [[1, 2], [1, 0]]
    (batch,) = model.prepare_dataset(given, 2, False, words, target="say", lengths=(2, 3))
    assert batch["labels"].tolist() == [[3, -100, -100], [1, 2, 3]]
    assert batch["input_ids"].shape == (2, 3)


def test_T17_own_collators_get_rows_and_arguments():
    def collate(rows, *, factor):
        assert all(row.keys() == {"input_ids", "label"} for row in rows)
        ids = np.array([row["input_ids"] for row in rows])
        return {"input_ids": ids, "labels": factor * np.array([r["label"] for r in rows]), "x": 1}

    given = bert(num_labels=5).prepare_dataset(
        arrays(4), tokenizer=words, collate_fn=collate, collate_fn_args={"factor": 2}, **IN_ORDER
    )
    (batch,) = given
    assert batch.keys() == {"input_ids", "labels"} and batch["labels"].tolist() == [0, 2, 4, 0]
    # labels of a language model are the collator's, too
    (batch,) = llama().prepare_dataset(
        arrays(4), collate_fn=lambda rows: {"input_ids": [r["input_ids"] for r in rows]}, **IN_ORDER
    )
    assert batch.keys() == {"input_ids"}


def test_T17_masking_is_of_80_10_10_and_follows_from_the_place():
    tok = fm.load_tokenizer(GOLDENS / "tokenizers" / "wordpiece")
    size, mask = len(tok), tok.mask_token_id
    model = bert("ForMaskedLM", vocab_size=size, max_position_embeddings=512)
    ordinary = [i for i in range(size) if i not in tok.all_special_ids]
    ids = np.random.default_rng(0).choice(ordinary, (128, 256))
    ids[:, 0] = tok.cls_token_id
    batches = model.prepare_dataset({"input_ids": ids}, 128, False, tok)
    (batch,) = batches
    labels, new = batch["labels"], batch["input_ids"]
    chosen = labels != -100
    assert not chosen[:, 0].any() and (labels[chosen] == ids[chosen]).all()
    assert (new[~chosen] == ids[~chosen]).all()
    count = chosen.sum()
    assert abs(count / chosen[:, 1:].size - 0.15) < 0.008
    masked, kept = (new[chosen] == mask).sum(), (new[chosen] == ids[chosen]).sum()
    assert abs(masked / count - 0.8) < 0.025 and abs(kept / count - 0.1) < 0.02
    (second,) = batches
    assert (second["labels"] != labels).any()
    shuffled = model.prepare_dataset({"input_ids": ids}, 128, True, tok)
    (batch,) = shuffled
    assert {row.tobytes() for row in batch["input_ids"]} == {row.tobytes() for row in new}
    (batch,) = model.prepare_dataset({"input_ids": ids}, 128, False, tok, mlm_probability=0)
    assert "labels" not in batch


def test_T17_multiple_choices_are_padded_together():
    rows = [{"input_ids": [[1, 2], [3]], "label": 1}, {"input_ids": [[4], [5, 6, 7]], "label": 0}]
    (batch,) = bert("ForMultipleChoice").prepare_dataset(rows, 2, False, lengths=(3,))
    assert batch["input_ids"].tolist() == [[[1, 2, 0], [3, 0, 0]], [[4, 0, 0], [5, 6, 7]]]
    assert batch["attention_mask"].shape == (2, 2, 3) and batch["labels"].tolist() == [1, 0]


class Endless(Mapped):
    def __len__(self):
        return 2**63 - 1


GOOD = {"input_ids": np.ones((8, 4), int)}
REFUSED = [
    ({"a": [1], "b": [2]}, {}, "columns a, b, and the model takes none .* input_ids"),
    ([{"text": "a"}] * 8, {}, "give tokenizer= and text="),
    ({"input_ids": [[1]] * 3, "label": [1]}, {}, "several lengths: input_ids 3, label 1"),
    ({}, {}, "empty"),
    ([], {}, "empty"),
    (lambda: iter([]), {}, "empty"),
    (GOOD, {"batch_size": 9}, "8 rows, fewer than batch_size=9"),
    (GOOD, {"batch_size": 0}, "batch_size is 0; expected at least 1"),
    (GOOD, {"batch_size": True}, "batch_size is True; expected a whole number"),
    (GOOD, {"batch_size": 2.5}, "batch_size is 2.5; expected a whole number"),
    (GOOD, {"seed": -1}, "seed is -1"),
    (GOOD, {"lengths": ()}, "lengths is empty"),
    (GOOD, {"lengths": (4,), "max_length": 8}, "lengths end at 4, and max_length is 8"),
    (GOOD, {"max_length": 65}, "max_length: 65 tokens, and the model has 64 positions"),
    (GOOD, {"text": "text"}, "give tokenizer="),
    (GOOD, {"target": "say", "tokenizer": words}, "has no decoder"),
    (GOOD, {"collate_fn_args": {"a": 1}}, "collate_fn, which is not given"),
    (GOOD, {"collate_fn": dict, "pack": True}, "give no lengths and no pack"),
    (GOOD, {"pack": True}, "sequence_classification; rows are packed where each token"),
    (GOOD, {"tokenizer": words, "text": "say"}, "no column 'say'; it has input_ids"),
    (GOOD, {"columns": "idx"}, "no column 'idx'"),
    (GOOD, {"collate_fn": lambda rows: {"input_ids": [1]}}, "were collated to arrays of"),
    (GOOD, {"max_lenght": 3}, "max_lenght"),
    ({"train": Table(GOOD)}, {}, r"has splits, 'train': give one, dataset\['train'\]"),
    (np.ones((8, 4)), {}, "say which column"),
    (3, {}, "dataset is a int"),
    (Endless([]), {}, r"without repeat\(\)"),
    ("data.csv", {}, "expected a file of .jsonl"),
    ([None] * 8, {}, "row 0 is None, as of a grain MapDataset"),
    ({"input_ids": np.full((8, 4), 64)}, {}, r"input_ids\[0, 0\] of a batch is 64; .* 0 to 63"),
    (GOOD | {"labels": [0] * 7 + [2]}, {"shuffle": False}, r"labels\[7\] of a batch is 2"),
    (GOOD | {"labels": [0] * 7 + [-1]}, {"shuffle": False}, "0 to 1, and -100 where"),
    ([{"input_ids": [1] * n} for n in range(1, 9)], {}, "give tokenizer=, or lengths="),
    ([{"text": 3}] * 8, {"tokenizer": words}, "column 'text' of a row is a int"),
    ([{"text": "a"}] * 8, {"tokenizer": 3}, "tokenizer is a int"),
    ([{"text": "a"}] * 8, {"tokenizer": lambda texts: []}, "made 0 rows of input_ids out of 8"),
    ([{"text": "a"}] * 8, {"tokenizer": lambda texts: None}, "made a NoneType of input_ids"),
    ([{"text": "a"}] * 8, {"tokenizer": lambda texts: [1] * 8}, "input_ids of a row are 1; expect"),
    (GOOD, {"shuffle": "no"}, "shuffle is 'no'; expected True or False"),
    (GOOD, {"prefetch": 2}, "prefetch is 2; expected True or False"),
    (GOOD, {"drop_remainder": "no"}, "drop_remainder is 'no'; expected True or False"),
    (GOOD, {"columns": None}, "columns: None is no name of a column"),
    (GOOD, {"tokenizer": words, "text": 3}, "text: 3 is no name of a column"),
    (GOOD, {"tokenizer": words, "text": ("a", "b", "c")}, "one column, or two for pairs"),
    (GOOD, {"tokenizer": words, "target": 3}, "target: 3 is no name of a column"),
    (GOOD, {"lengths": 8}, "lengths=8; expected several"),
    (GOOD, {"pack": np.ones(2)}, "pack=array.*; expected True, False or 'split'"),
    (GOOD, {"mlm_probability": "0.1"}, "mlm_probability='0.1'; expected a number"),
    (GOOD, {"mlm_probability": 2}, "mlm_probability=2; expected 0 to 1"),
    (GOOD, {"mlm_probability": 0.3}, "would have no effect: .* is not trained by masking"),
    (GOOD, {"rules": "fsdp"}, "rules are those of a mesh"),
    (GOOD, {"seed": 2**70}, "seed is .*; expected at most"),
    (GOOD, {"collate_fn": 3}, "collate_fn is a int; expected a function"),
    (GOOD, {"collate_fn": dict, "collate_fn_args": [1]}, "collate_fn_args is a list"),
    (GOOD, {"collate_fn": lambda rows: None}, "collate_fn gave a NoneType"),
    (GOOD, {"collate_fn": lambda rows: {"x": 1}}, "collated to x, of which the model takes none"),
    (GOOD, {"collate_fn": lambda rows: {"input_ids": [[1], [1, 2]]}}, "rows of different lengths"),
    ({"input_ids": np.array(3)}, {}, "column 'input_ids' is a ndarray; expected an array"),
    ({3: [1]}, {}, "the columns 3, and the model takes none"),
    ({"input_ids": np.arange(8)}, {}, "input_ids of a row are .*; expected whole numbers"),
    ([{"input_ids": None}] * 8, {}, "input_ids of a row are None; expected whole numbers"),
    ([{"input_ids": [1, None]}] * 8, {"lengths": (4,)}, r"a row is \[1, None\]; expected whole"),
    ([{"input_ids": [1]}] * 7 + [{"label": 1}], {"lengths": (4, 8)}, "no column 'input_ids', and"),
    (
        [{"input_ids": [1, 2], "attention_mask": [1]}] * 8,
        {},
        "attention_mask of a row is .1.*has 2",
    ),
    (dict, {}, "dataset is the class dict; expected one of its objects"),
    (lambda: None, {}, "the function that makes the dataset gave a NoneType"),
]


class Fewer:
    """Rows that are not as many as they say."""

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return ([IDS] * 8)[index]


IDS = {"input_ids": [1, 2]}
LIES = [
    (Fewer(), "says that it has 9 rows, and has no row 8: list index out of range"),
    ([IDS, IDS | {"attention_mask": [1, 0]}], "'attention_mask', and the first of them has not"),
    (
        [IDS | {"labels": [1, 2]}, IDS | {"labels": [1]}],
        r"labels of a row is \[1\].*has 2 input_ids",
    ),
    ([IDS, {"input_ids": [1.5, 2]}], r"input_ids of a row are \[1.5, 2\]; expected whole numbers"),
]


def test_T17_rows_that_lie_are_named():
    for dataset, message in LIES:
        with pytest.raises(ValueError, match=message):
            list(llama().prepare_dataset(dataset, 2, False, lengths=(4,)))


def test_T17_bad_input_is_refused():
    model = bert()
    for dataset, how, message in REFUSED:
        with pytest.raises((TypeError, ValueError), match=message):
            list(model.prepare_dataset(dataset, **how))


@pytest.mark.parametrize(
    "line, problem",
    [
        ('{"input_ids": [1, 2}', "delimiter"),
        ("[1, 2]", "expected an object, one row; got list"),
        ('{"a": 1, "a": 2}', "a"),
    ],
)
def test_T17_a_broken_line_is_named(tmp_path, line, problem):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input_ids": [1]}\n\n{"input_ids": [2]}\n' + line + "\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 4: ") + f".*{problem}"):
        list(llama().prepare_dataset(path, 1, False))


def test_T17_what_makes_no_batches_is_named():
    with pytest.raises(TypeError, match="model is .*; expected a model of this library"):
        prepare(fm.LlamaForCausalLM, GOOD)
    with pytest.raises(TypeError, match="column 'input_ids' is traced"):
        jax.jit(lambda ids: llama().prepare_dataset({"input_ids": ids}))(np.ones((8, 4), int))
    with pytest.raises(ValueError, match="has no tokenizer="):
        bert("ForMaskedLM").prepare_dataset(GOOD, mlm_probability=0.3)
    own = {"collate_fn": dict, "mlm_probability": 0.3}
    with pytest.raises(ValueError, match="collate_fn makes labels"):
        bert("ForMaskedLM").prepare_dataset(GOOD, **own)


def test_T17_a_masked_lm_needs_a_mask_token():
    with pytest.raises(ValueError, match="the tokenizer has no mask token"):
        bert("ForMaskedLM").prepare_dataset(GOOD, tokenizer=words)


def test_T17_other_names_say_what_to_write():
    with pytest.raises(AttributeError, match=r"model.prepare_dataset\(dataset, ...\)"):
        _ = llama().prepare_tf_dataset
    with pytest.raises(TypeError, match="'batchsize' .did you mean batch_size"):
        llama().prepare_dataset(GOOD, batchsize=2)
