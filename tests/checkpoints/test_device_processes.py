"""Two processes load on devices: each reads its share, and they exchange what they read."""

import json
import time

import pytest
from _paths import LLAMA
from _runs import Run, values
from _turns import some_of

PROGRAM = """
import functools
from flaxmodels.checkpoints import model_plan as planning, offload
from flaxmodels.params.checkpoint import make_plan as plans
from flaxmodels.params.checkpoint.device.routes import Limits
from flaxmodels.params.formats.source import Tensor

source, cases = given
join()
plans.limits_of = lambda _: Limits(8 << 10, 8 << 10, 256)
rules = (("vocab", None), *fs.DEFAULT_RULES)
meshes = {
    "tensor": (fs.make_mesh(fsdp=2, tensor=2), rules),
    "stage": (fs.make_mesh(stage=2, fsdp=2), (("layers", "stage"), *rules)),
}
made, fill, reads = [], Tensor.fill, 0

def streamed(plan, progress):
    before = plan.match.source.bytes_read
    params = stream(plan, progress=progress)
    made.append((plan, plan.match.source.bytes_read - before))
    return params

stream, offload.stream = offload.stream, streamed

def loaded(name, route, scan):
    mesh, rules = meshes[name]
    planning.make_plan = functools.partial(plans.make_plan, route=route)
    return fm.LlamaForCausalLM.from_pretrained(
        source, mesh=mesh, rules=rules, scan_layers=scan, progress=False
    )[1]

def same(one, two):
    pairs = zip(one.addressable_shards, two.addressable_shards, strict=True)
    return one.sharding == two.sharding and all(
        np.array_equal(np.asarray(a.data), np.asarray(b.data)) for a, b in pairs
    )

for case in json.loads(cases):
    name, scan = case.split()[0], case.endswith("True")
    device, host = loaded(name, "device", scan), loaded(name, "host", scan)
    (plan, read), _ = made[-2:]
    chunked = sum(leaf.route.kind == "device" for leaf in plan.leaves)
    equal = jax.tree.all(jax.tree.map(same, device, host))
    say(case, [equal, chunked, read, plan.stored_bytes])

def broken():
    raise fm.CheckpointError("a disk of process 1 is broken")

for fault, harm in (("error", broken), ("kill", lambda: os.kill(os.getpid(), 9))):
    calls = iter(range(1, 1 << 30))

    def faulty(*args):
        if next(calls) == 5 and number == 1:
            harm()
        return fill(*args)

    Tensor.fill = faulty
    say(fault, said_of(lambda: bool(loaded("tensor", "device", False))))
    Tensor.fill = fill
"""
CASES = ("tensor False", "tensor True", "stage True")  # one axis: test_four_processes.py
BY_DEFAULT = ("tensor False", "stage True")


@pytest.fixture(scope="module")
def run(thorough):
    """What each of two processes says, the second of which dies at last; and how many seconds
    later the first has ended."""
    run = Run(PROGRAM, LLAMA, json.dumps(CASES if thorough else BY_DEFAULT), count=2)
    run.processes[1].wait(240)
    start = time.monotonic()
    ended = run.ended()
    seconds = time.monotonic() - start
    assert [process.returncode for process in run.processes] == [0, -9], ended
    return [values(out) for out, _ in ended], seconds


@some_of("case", CASES, *BY_DEFAULT)
def test_each_reads_its_share_and_gets_what_the_host_would_give(case, run):
    for equal, chunked, read, stored in (of[case] for of in run[0]):
        assert equal and chunked >= 9 and read <= 0.53 * stored


def test_the_error_of_one_is_raised_by_all(run):
    first, second = (of["error"]["error"] for of in run[0])
    assert first.startswith("CheckpointError: process 1 failed")
    assert second == "CheckpointError: a disk of process 1 is broken"


def test_peers_when_a_process_dies_the_other_names_it_and_ends(run):
    (first, _), seconds = run
    assert seconds < 20
    assert first["kill"]["error"].startswith("PeerLost: process 1 ")
