"""The collators make what Transformers' of the same names make."""

import json

import numpy as np
import pytest
from _paths import GOLDENS

from flaxmodels.data import DataCollatorWithPadding, DefaultDataCollator
from flaxmodels.data.collate import Padding

GOLDEN = json.loads((GOLDENS / "training" / "collators.json").read_text())


def collator_of(case):
    if case["collator"] == "default":
        return DefaultDataCollator()
    return DataCollatorWithPadding(Padding(GOLDEN["pad"], case["side"]), **case["how"])


@pytest.mark.parametrize("kind, count", [("default", 9), ("padding", 68)])
def test_T17_collators_make_what_the_reference_makes(kind, count):
    cases = [case for case in GOLDEN["cases"] if case["collator"] == kind]
    assert len(cases) == count
    for case in cases:
        made = collator_of(case)(case["rows"])
        expected = {name: np.array(x["values"], x["dtype"]) for name, x in case["made"].items()}
        assert made.keys() == expected.keys(), case
        for name, x in expected.items():
            assert made[name].dtype == x.dtype, (case, name)
            np.testing.assert_array_equal(made[name], x, err_msg=str(case))


def test_T17_numpy_rows_are_collated_like_lists():
    case = next(c for c in GOLDEN["cases"] if c["name"] == "types" and c["how"] == {})
    rows = [{name: np.array(x, np.int32) for name, x in row.items()} for row in case["rows"]]
    made = collator_of(case)(rows)
    assert {name: x.tolist() for name, x in made.items()} == {
        name: x["values"] for name, x in case["made"].items()
    }


@pytest.mark.parametrize("name", ["max_length", "pad_to_multiple_of"])
@pytest.mark.parametrize("value", [0, "8"])
def test_T17_lengths_are_whole_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; expected"):
        DataCollatorWithPadding(Padding(0), **{name: value})


@pytest.mark.parametrize(
    "collator, rows, message",
    [
        (DefaultDataCollator(), [{"a": [1]}, {"a": [1, 2]}], "column 'a' has values of shapes"),
        (DefaultDataCollator(), [{"a": 1, "b": 2}, {"a": 1}], "row 1 of the batch has no column"),
        (DataCollatorWithPadding(Padding(None)), [{"input_ids": [1]}, {"input_ids": [1, 2]}],
         "rows have 1 to 2 tokens, and there is no padding token"),
        (DataCollatorWithPadding(Padding(0)), [{"ids": [1]}], "rows are padded by their input_ids"),
        (DataCollatorWithPadding(Padding(0), padding=False),
         [{"input_ids": [1]}, {"input_ids": [1, 2]}], "and padding=False"),
        (DataCollatorWithPadding(Padding(0)),
         [{"input_ids": [1], "attention_mask": [1, 1]}], "attention_mask has"),
        (DataCollatorWithPadding(Padding(0)),
         [{"input_ids": [[1]]}, {"input_ids": [[1], [2]]}], "1 and 2 choices"),
        (DataCollatorWithPadding(Padding(0)), [{"input_ids": [2**70]}], "expected whole numbers"),
        (DataCollatorWithPadding(Padding(0)), [], "there are no rows to make a batch of"),
        (DefaultDataCollator(), [], "there are no rows to make a batch of"),
        (DataCollatorWithPadding(Padding(0)), [{"input_ids": [1.5, 2.0]}], "expected whole"),
        (DataCollatorWithPadding(Padding(0)), [{"input_ids": ["1", "2"]}], "expected whole"),
    ],
)  # fmt: skip
def test_T17_rows_that_make_no_array_are_refused(collator, rows, message):
    with pytest.raises(ValueError, match=message):
        collator(rows)
