"""Two processes load on devices: each reads its share, and they exchange what they read."""

import json
import socket
import time

import _children
from _paths import LLAMA

PROGRAM = """
import functools, json, os, sys
rank, port, source, fault = int(sys.argv[1]), *sys.argv[2:]
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"
import jax
import numpy as np
import flaxmodels as fm
from flaxmodels import params as fp, sharding as fs
from flaxmodels.checkpoints import offload, plan as planning
from flaxmodels.params.checkpoint import plan as plans
from flaxmodels.params.checkpoint.device.routes import Limits
from flaxmodels.params.formats.source import Tensor

fs.initialize(coordinator_address=f"localhost:{port}", num_processes=2, process_id=rank)
plans.limits_of = lambda _: Limits(8 << 10, 8 << 10, 256)
rules = (("vocab", None), *fs.DEFAULT_RULES)
meshes = {
    "fsdp": (fs.make_mesh(fsdp=4), rules),
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

def faulty(*args):
    global reads
    reads += 1
    if reads == 5 and rank == 1:
        if fault == "kill":
            os.kill(os.getpid(), 9)
        raise fm.CheckpointError("a disk of process 1 is broken")
    return fill(*args)

try:
    if fault == "none":
        said = {}
        for name, scan in (("fsdp", False), ("tensor", False), ("tensor", True), ("stage", True)):
            device, host = loaded(name, "device", scan), loaded(name, "host", scan)
            (plan, read), _ = made[-2:]
            chunked = sum(leaf.route.kind == "device" for leaf in plan.leaves)
            equal = jax.tree.all(jax.tree.map(same, device, host))
            said[f"{name} {scan}"] = [equal, chunked, read, plan.stored_bytes]
        print(json.dumps(said))
    else:
        Tensor.fill = faulty
        loaded("tensor", "device", False)
except fm.CheckpointError as error:
    print(f"{type(error).__name__}: {error}", flush=True)
    sys.exit(3)
"""


def started(fault):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = (str(port), LLAMA, fault)
    return [_children.Child("-c", PROGRAM, str(rank), *arguments) for rank in range(2)]


def test_each_reads_its_share_and_gets_what_the_host_would_give():
    processes = started("none")
    said = [process.communicate(timeout=240) for process in processes]
    assert all(process.returncode == 0 for process in processes), said
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in said)
    for case, (equal, chunked, read, stored) in first.items():
        assert equal and second[case][0], case
        assert chunked >= 9, case
        assert max(read, second[case][2]) <= 0.53 * stored, case


def test_the_error_of_one_is_raised_by_all():
    processes = started("error")
    said = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [3, 3], said
    first, second = (out.splitlines()[-1] for out, _ in said)
    assert first.startswith("CheckpointError: process 1 failed")
    assert second == "CheckpointError: a disk of process 1 is broken"


def test_peers_when_a_process_dies_the_other_names_it_and_ends():
    processes = started("kill")
    processes[1].wait(timeout=240)
    start = time.monotonic()
    out, errors = processes[0].communicate(timeout=240)
    assert time.monotonic() - start < 20, errors[-2000:]
    assert processes[0].returncode == 3 and "PeerLost: process 1 " in out, (out, errors[-3000:])
