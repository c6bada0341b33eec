"""Two processes save one state together, and are told together that their run is to end."""

import _trainer
import numpy as np
import pytest
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


def ran(*arguments):
    """Runs two processes -> what each said, which is the same of losses and steps."""
    one, two = Run(TWO, ROOT / "tests/helpers", *arguments, count=2).said()
    for name in ("losses", "steps", "stopped", "status"):
        assert one[name] == two[name]
    return one | {"losses": {int(k): v for k, v in one["losses"].items()}}, two


def numbers(losses):
    return np.array([float.fromhex(loss) for loss in losses.values()])


def test_two_processes_are_told_to_stop_and_one_goes_on_from_there(tmp_path):
    folder = tmp_path / "run"
    one, two = ran(folder, 300, 5)
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
