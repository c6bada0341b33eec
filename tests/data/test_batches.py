"""Where an epoch stands: order, resuming, threads, shapes, and devices."""

import gc
import itertools
import threading
import time
import weakref

import jax
import numpy as np
import pytest
from _datasets import bert, llama, rows_of, same

import flaxmodels as fm
from flaxmodels import sharding as fs
from flaxmodels.data import prepare
from flaxmodels.data.prefetch import Ahead
from flaxmodels.data.rows.draws import mixed, permutation, uniform

WAYS = {
    "plain": {"lengths": (32,)},
    "lengths": {"lengths": (8, 16, 32)},
    "packed": {"pack": True, "max_length": 48},
    "split": {"pack": "split", "max_length": 8},
}


def made(dataset, how, **more):
    return llama().prepare_dataset(dataset, 4, **WAYS[how], **more)


def tokens(batches):
    ids = np.concatenate([b["input_ids"].ravel() for b in batches])
    return sorted(ids[ids > 0].tolist())


def test_T17_draws_are_those_of_splitmix64():
    # Vigna's splitmix64.c from the state 0: the first two outputs
    state, golden = np.uint64(0), 0x9E3779B97F4A7C15
    assert int(mixed(0)[0]) == 0xE220A8397B1DCDAF
    second = np.array([golden], np.uint64) ^ state  # its state after one step
    assert int(mixed(int(second[0]))[0]) == 0x6E789E6AA1B965F4
    assert sorted(permutation(1000, 1, 2)) == [*range(1000)]
    assert abs(uniform(3, np.arange(10_000)).mean() - 0.5) < 0.01


def test_T17_shuffling_is_by_epoch_and_seed():
    given = {"input_ids": np.arange(40)[:, None] + 1}
    order = lambda batches: [x for b in batches for x in b["input_ids"][:, 0].tolist()]  # noqa: E731
    batches = llama().prepare_dataset(given, 8)
    first, second = order(batches), order(batches)
    assert sorted(first) == sorted(second) == [*range(1, 41)] and first != second
    assert order(llama().prepare_dataset(given, 8)) == first
    assert order(llama().prepare_dataset(given, 8, seed=1)) != first
    assert order(llama().prepare_dataset(given, 8, False)) == [*range(1, 41)]


@pytest.mark.parametrize("shuffle, drop, sizes", [
    (True, None, [4, 4]), (False, None, [4, 4, 2]), (True, False, [4, 4, 2]), (False, True, [4, 4]),
])  # fmt: skip
def test_T17_the_rest_is_dropped_where_rows_are_shuffled(shuffle, drop, sizes):
    given = {"input_ids": np.ones((10, 3), int)}
    batches = llama().prepare_dataset(given, 4, shuffle, drop_remainder=drop)
    assert [len(b["input_ids"]) for b in batches] == sizes and len(batches) == len(sizes)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("stream", [False, True], ids=["rows", "stream"])
def test_T17_a_place_is_taken_up_bit_for_bit(how, stream):
    rows = rows_of(61)
    dataset = (lambda: iter(rows)) if stream else rows
    more = {"drop_remainder": False, "shuffle_buffer": 10}
    whole = made(dataset, how, **more)
    epochs = [list(whole) for _ in range(2)]
    assert tokens(epochs[0]) == tokens(epochs[1])
    left = made(dataset, how, **more)
    begun = [*left, *itertools.islice(left, 2)]
    state = left.state()
    assert state == {"seed": 0, "epoch": 1, "position": 2, "batch_size": 4} | {
        "rows": -1 if stream else 61
    }
    same(begun, [*epochs[0], *epochs[1][:2]])
    taken_up = made(dataset, how, **more, seed=5, prefetch=False).restore(state)
    same(list(taken_up), epochs[1][2:])
    assert taken_up.state()["epoch"] == 2
    same(list(left), epochs[1][2:])  # one that was left goes on


def test_T17_a_place_of_other_data_is_refused():
    state = made(rows_of(20), "plain").state()
    for other, message in [
        (made(rows_of(21), "plain").state(), "the state is of rows=21, and here it is 20"),
        (state | {"batch_size": 5}, "batch_size=5"),
        (state | {"position": 6}, "after batch 6 of an epoch, and here one has 5"),
        (state | {"epoch": -1}, "expected numbers from 0"),
        ({"epoch": 1}, "expected what state"),
        ("epoch", "expected what state"),
        (state | {"epoch": 0.5}, "state: epoch is 0.5; expected a whole number"),
        (state | {"epoch": None}, "state: epoch is None; expected a whole number"),
    ]:
        with pytest.raises(ValueError, match=message):
            made(rows_of(20), "plain").restore(other)
    there = {name: np.array(value) for name, value in state.items()}  # as orbax reads it
    assert made(rows_of(20), "plain").restore(there).state() == state
    shorter = made(lambda: iter(rows_of(8)), "plain").restore(
        {"seed": 0, "epoch": 0, "position": 4, "batch_size": 4, "rows": -1}
    )
    with pytest.raises(ValueError, match="ended 2 batches before the place"):
        next(iter(shorter))


def test_T17_lengths_and_packing_bound_the_shapes():
    rows = rows_of(200)
    ragged = [len(row["input_ids"]) for row in rows]
    batches = made(rows, "lengths", drop_remainder=False)
    given = list(batches)
    assert {b["input_ids"].shape[1] for b in given} == {8, 16, 32} and len(batches.shapes) <= 4
    assert sum(b["attention_mask"].sum() for b in given) == sum(ragged)
    assert all(len(b["input_ids"]) == 4 for b in given) and len(batches) == len(given) == 50
    packed = made(rows, "packed")
    given = list(packed)
    assert len(packed.shapes) == 1 and len(given) == len(packed)
    filled = np.mean([b["segment_ids"] > 0 for b in given])
    assert filled > 0.93


def test_T17_many_shapes_are_warned_of():
    tok = lambda texts: [[1] * len(text) for text in texts]  # noqa: E731
    batches = llama().prepare_dataset(["a" * n for n in range(1, 20)], 1, False, tok)
    with pytest.warns(UserWarning, match=r"more than 16 shapes.*lengths=\(64, 128"):
        list(batches)
    assert len(batches.shapes) == 19


def test_T17_packed_segments_do_not_touch():
    rows = [{"input_ids": [n] * n, "attention_mask": [1] * n} for n in (5, 3, 2, 6, 4)]
    rows[1] = {"input_ids": [0, 3, 3, 3, 0], "attention_mask": [0, 1, 1, 1, 0]}
    (batch,) = llama().prepare_dataset(rows, 3, False, pack=True, max_length=8)
    assert batch["input_ids"].tolist() == [
        [5, 5, 5, 5, 5, 3, 3, 3],
        [2, 2, 6, 6, 6, 6, 6, 6],
        [4, 4, 4, 4, 0, 0, 0, 0],
    ]
    assert batch["segment_ids"].tolist() == [
        [1] * 5 + [2] * 3,
        [1] * 2 + [2] * 6,
        [1] * 4 + [0] * 4,
    ]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert batch["labels"][0].tolist() == [-100, 5, 5, 5, 5, -100, 3, 3]
    assert batch["labels"][2].tolist() == [-100, 4, 4, 4] + [-100] * 4
    assert "attention_mask" not in batch
    with pytest.raises(ValueError, match=r"labels of a row is \[1\], and the row has 2"):
        rows = [{"input_ids": [1, 2], "labels": [1]}]
        list(llama().prepare_dataset(rows, 1, pack=True, max_length=8))
    tagged = [{"input_ids": [1, 2], "labels": [1, 0]}, {"input_ids": [3], "labels": [1]}]
    (batch,) = bert("ForTokenClassification").prepare_dataset(
        tagged, 1, False, pack=True, max_length=4
    )
    assert batch["labels"].tolist() == [[1, 0, 1, -100]]  # the label of the token itself


@pytest.mark.parametrize("axes", [{"data": 8}, {"fsdp": 4, "tensor": 2}], ids=str)
def test_T17_batches_lie_on_the_mesh_by_the_rule_of_batch(axes):
    mesh = fs.make_mesh(**axes)
    rows = rows_of(22)
    for how in WAYS.values():
        args = {"batch_size": 8, "drop_remainder": False, **how}
        spread = list(prepare(llama(), rows, **args, mesh=mesh))
        plain = list(prepare(llama(), rows, **args))
        for batch, expected in zip(spread, plain, strict=True):
            real = len(expected["input_ids"])
            for name, x in batch.items():
                assert isinstance(x, jax.Array) and x.shape[0] == 8
                axis = "data" if "data" in axes else "fsdp"
                spec = x.sharding.spec  # pyright: ignore[reportAttributeAccessIssue]
                assert spec[0] in (axis, (axis,))
                np.testing.assert_array_equal(np.asarray(x)[:real], expected[name])
            assert (np.asarray(batch["labels"])[real:] == -100).all()
    with pytest.raises(ValueError, match="batch_size=6 is not divided by the . parts"):
        prepare(llama(), rows, 6, mesh=mesh)


def test_T17_labels_with_fractions_are_not_filled_up():
    given = {"input_ids": np.ones((10, 3), int), "label": np.linspace(0, 1, 10)}
    batches = prepare(bert(num_labels=1), given, 8, False, mesh=fs.make_mesh(data=8))
    with pytest.raises(ValueError, match="give drop_remainder=True"):
        list(batches)


def threads():
    return [t for t in threading.enumerate() if t.name == "flaxmodels-data"]


def test_T17_the_thread_ends_with_the_iteration():
    gc.disable()  # what is made here stays young: a collection of all takes 0.4 s
    try:
        batches = made(rows_of(40), "plain")
        for _ in batches:
            assert len(threads()) == 1
            break
        gc.collect(0)
        assert threads() == []
        first, second = iter(batches), iter(batches)
        assert len(threads()) == 1 and next(first, None) is None and next(second)
        owner = weakref.ref(batches)
        del first, second, batches
        gc.collect(1)
        assert threads() == [] and owner() is None
    finally:
        gc.enable()


def test_T17_what_a_thread_raises_is_raised_where_the_batch_would_be():
    rows = rows_of(12)
    rows[9] = {"input_ids": [99]}
    batches = made(rows, "plain", shuffle=False)
    given = iter(batches)
    assert next(given)["input_ids"].shape == next(given)["input_ids"].shape == (4, 32)
    with pytest.raises(ValueError, match=r"input_ids\[1, 0\] of a batch is 99"):
        next(given)
    assert batches.state()["position"] == 2 and threads() == [] and next(given, None) is None


def test_T17_two_batches_are_made_ahead_and_not_counted():
    counted = []

    def rows():
        for row in rows_of(400):
            counted.append(row)
            yield row

    batches = made(rows, "plain", shuffle=False)
    given = iter(batches)
    next(given)
    end = time.monotonic() + 10
    while len(counted) < 16 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    assert 16 <= len(counted) <= 17 and batches.state()["position"] == 1  # 1 given, 2 + 1 made
    given.close()
    plain = made(rows_of(8), "plain", prefetch=False)
    next(iter(plain))
    assert threads() == []


def test_T17_a_thread_that_waits_for_room_is_ended():
    closed = threading.Event()

    def numbers():
        try:
            yield from range(100)
        finally:
            closed.set()

    ahead = Ahead(numbers(), 2)
    assert next(ahead) == 0
    ahead.close()
    assert closed.is_set() and threads() == [] and [*ahead] == []


@pytest.mark.parametrize("how", WAYS)
def test_T17_fewer_rows_than_a_batch_are_no_silent_end(how):
    with pytest.raises(ValueError, match="drop_remainder=False, or a smaller"):
        list(made(rows_of(3, 10), how))
    with pytest.raises(ValueError, match="do not fill one batch"):
        list(made(lambda: iter(rows_of(3, 10)), how))
    assert len(list(made(lambda: iter(rows_of(3, 10)), how, drop_remainder=False))) == 1


def test_T17_packed_positions_begin_where_the_models_do():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = fm.RobertaForTokenClassification(fm.RobertaConfig(vocab_size=64, **sizes))
    rows = [{"input_ids": [5] * n, "labels": [1] * n} for n in (3, 2)]
    (batch,) = model.prepare_dataset(rows, 1, False, pack=True, max_length=6)
    assert batch["position_ids"].tolist() == [[2, 3, 4, 2, 3, 0]]
    model = fm.BloomForCausalLM(fm.BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2))
    (batch,) = model.prepare_dataset([{"input_ids": [5, 6]}], 1, False, pack=True, max_length=3)
    assert batch.keys() == {"input_ids", "labels", "segment_ids", "position_ids"}


@pytest.mark.parametrize("stream", [False, True], ids=["rows", "stream"])
def test_T17_rows_that_are_split_lose_nothing(stream):
    rows = [{"text": " ".join("a" * n for n in range(1, 12))}, {"text": "aa"}, {"text": "a a a"}]
    tok = lambda texts: [[len(word) for word in text.split()] for text in texts]  # noqa: E731
    (batch,) = llama().prepare_dataset(
        (lambda: iter(rows)) if stream else rows, 4, False, tok, pack="split", max_length=4
    )
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 2], [1, 1, 1, 0]]
    assert batch["segment_ids"].tolist() == [[1] * 4, [1] * 4, [1, 1, 1, 2], [1, 1, 1, 0]]
    assert batch["labels"][1].tolist() == [-100, 6, 7, 8]
    with pytest.raises(ValueError, match="pack='cut'; expected True, False or 'split'"):
        llama().prepare_dataset(rows, tokenizer=tok, pack="cut", max_length=4)
