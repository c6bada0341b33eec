"""Two processes save one state together, are told together that their run is to end, and make the
batches that one makes, each its own rows of them."""

import _trainer
import numpy as np
import pytest
from _datasets import llama, rows_of, words
from _paths import ROOT
from _runs import Run

from flaxmodels.training import Checkpoints

TWO = """
import signal
sys.path.insert(0, given.pop(0))  # where the trainer is
import _trainer
from jax.sharding import NamedSharding, PartitionSpec
from flaxmodels.training import Checkpoints

join()
mesh = fs.make_mesh(fsdp=4)
folder, until, told = given[0], int(given[1]), int(given[2])

def where(x):
    return NamedSharding(mesh, PartitionSpec("fsdp") if x.ndim == 2 else PartitionSpec())

shardings = jax.tree.map(where, jax.eval_shape(_trainer.init))
start = jax.jit(_trainer.init, out_shardings=shardings)()
_trainer.init = lambda: start
losses = {}

def said(step, loss):
    losses[step] = float(loss).hex()
    if number == 1 and step == told:
        os.kill(os.getpid(), signal.SIGTERM)

checkpoints = Checkpoints(folder, every=4, keep=None)
try:
    with checkpoints:
        state = _trainer.run(checkpoints, until, said)
    say("status", 0)
except SystemExit as error:
    say("status", error.code)
say("losses", losses)
say("steps", checkpoints.steps)
say("stopped", checkpoints.should_stop)
if told:
    say("local", said_of(lambda: checkpoints.save({"w": jnp.zeros(2)}, step=99, force=True)))
    apart = Checkpoints(f"{folder}{'' if number else 0}")
    say("apart", said_of(lambda: apart.restore({"w": jnp.zeros(2)})))
"""
WAYS = {
    "lengths": {"lengths": (8, 16, 32)},
    "packed": {"pack": True, "max_length": 48},
    "longest": {"tokenizer": words},
}
BATCHES = """
from _datasets import Mapped, llama, rows_of, words
first, second = ([d for d in jax.devices() if d.process_index == p] for p in range(2))
mesh = jax.sharding.Mesh([first[0], *second, first[1]], ("data",))
read = []

class Counted(Mapped):
    def __getitem__(self, index):
        read.append(index)
        return super().__getitem__(index)

ways = {
    "lengths": {"lengths": (8, 16, 32)},
    "packed": {"pack": True, "max_length": 48},
    "longest": {"tokenizer": words},
}
for name, how in ways.items():
    batches = llama().prepare_dataset(
        rows_of(22), 8, mesh=mesh, drop_remainder=False, **how
    )
    place = {**batches.state(), "epoch": 1, "position": 1}
    said = []
    for batch in batches.restore(place):
        assert all(x.shape[0] == 8 and not x.is_fully_addressable for x in batch.values())
        said.append({
            name: [[s.index[0].start, s.data.tolist()] for s in x.addressable_shards]
            for name, x in batch.items()
        })
    say(name, said)
batches = llama().prepare_dataset(Counted(rows_of(16)), 8, False, mesh=mesh, lengths=(32,))
read.clear()
assert len(list(batches)) == 2
say("read", read)
"""
"""What is said of batches, by the processes of the same run: two more take 4 s of CPU time."""


def ran(*arguments, more=""):
    """Runs two processes -> what each said, which is the same of losses and steps."""
    one, two = Run(TWO + more, ROOT / "tests/helpers", *arguments, count=2).said()
    for name in ("losses", "steps", "stopped", "status"):
        assert one[name] == two[name]
    return one | {"losses": {int(k): v for k, v in one["losses"].items()}}, two


def numbers(losses):
    return np.array([float.fromhex(loss) for loss in losses.values()])


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The folder of a run that was told to stop, and what its processes said."""
    folder = tmp_path_factory.mktemp("told") / "run"
    return folder, *ran(folder, 300, 5, more=BATCHES)


def test_two_processes_are_told_to_stop_and_one_goes_on_from_there(told):
    folder, one, two = told
    last = max(one["losses"])
    assert 5 < last < 300 and one["status"] == 143 and one["stopped"]
    assert one["steps"] == sorted({*range(4, last, 4), last})
    curve = _trainer.curve(last + 3)
    rest = {}
    with Checkpoints(folder, every=4) as checkpoints:
        _trainer.run(checkpoints, last + 3, lambda step, x: rest.update({step: float(x).hex()}))
    assert list(rest) == [last + 1, last + 2, last + 3]
    np.testing.assert_allclose(numbers(one["losses"] | rest), numbers(curve), rtol=1e-5)
    for said in (one, two):
        assert "w is on devices of this process alone" in said["local"]["error"]
        assert "Checkpoints.restore: folder: process 0 has" in said["apart"]["error"]


def test_T17_each_process_has_its_rows_of_the_global_batch(told):
    _, *said = told
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


@pytest.mark.soak
def test_two_processes_go_on_to_the_last_bit(tmp_path):
    whole, _ = ran(tmp_path / "whole", 40, 0)
    one, _ = ran(tmp_path / "run", 18, 0)
    two, _ = ran(tmp_path / "run", 300, 22)
    last = max(two["losses"])
    three, _ = ran(tmp_path / "run", max(40, last + 2), 0)
    found = one["losses"] | two["losses"] | three["losses"]
    assert one["steps"] == [4, 8, 12, 16, 18] and min(three["losses"]) == last + 1
    assert {step: found[step] for step in whole["losses"]} == whole["losses"]
