"""Two processes make the batches that one makes, each its own rows of them."""

import _runs
import numpy as np
from _datasets import llama, rows_of, words
from _paths import ROOT

WAYS = {
    "lengths": {"lengths": (8, 16, 32)},
    "packed": {"pack": True, "max_length": 48},
    "longest": {"tokenizer": words},
}

PROGRAM = f"""
sys.path[:0] = [{str(ROOT / "tests" / "helpers")!r}]
from _datasets import Mapped, llama, rows_of, words
join()
first, second = ([d for d in jax.devices() if d.process_index == p] for p in range(2))
mesh = jax.sharding.Mesh([first[0], *second, first[1]], ("data",))
read = []

class Counted(Mapped):
    def __getitem__(self, index):
        read.append(index)
        return super().__getitem__(index)

ways = {{
    "lengths": {{"lengths": (8, 16, 32)}},
    "packed": {{"pack": True, "max_length": 48}},
    "longest": {{"tokenizer": words}},
}}
for name, how in ways.items():
    batches = llama().prepare_dataset(
        rows_of(22), 8, mesh=mesh, drop_remainder=False, **how
    )
    place = {{**batches.state(), "epoch": 1, "position": 1}}
    said = []
    for batch in batches.restore(place):
        assert all(x.shape[0] == 8 and not x.is_fully_addressable for x in batch.values())
        said.append({{
            name: [[s.index[0].start, s.data.tolist()] for s in x.addressable_shards]
            for name, x in batch.items()
        }})
    say(name, said)
batches = llama().prepare_dataset(Counted(rows_of(16)), 8, False, mesh=mesh, lengths=(32,))
read.clear()
assert len(list(batches)) == 2
say("read", read)
"""


def test_T17_each_process_has_its_rows_of_the_global_batch():
    said = _runs.Run(PROGRAM, count=2).said()
    for name, how in WAYS.items():
        batches = llama().prepare_dataset(rows_of(22), 8, drop_remainder=False, **how)
        expected = [*batches.restore({**batches.state(), "epoch": 1, "position": 1})]
        assert len(expected) == len(said[0][name]) == len(said[1][name]) >= 1
        for i, batch in enumerate(expected):
            for column, x in batch.items():
                shards = [shard for each in said for shard in each[name][i][column]]
                made = np.concatenate([np.array(rows) for _, rows in sorted(shards)])
                assert len(made) == 8
                np.testing.assert_array_equal(made[: len(x)], x)
    # rows of a known length: none is read that another process has
    assert [each["read"] for each in said] == [
        [0, 1, 6, 7, 8, 9, 14, 15],
        [2, 3, 4, 5, 10, 11, 12, 13],
    ]
