"""Two processes load a repository together: of one commit, each the shards that its devices need,
and what goes wrong for one goes wrong for both."""

import json
import os
import socket

import _children
import pytest
from _downloads import NAME, SHARDS, files_of
from _paths import SHARDED
from _turns import some_of
from loopback import Fault
from loopback.client import hub_environment

PROGRAM = """
import json, os, sys
rank, port, name, source = int(sys.argv[1]), *sys.argv[2:]
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"
import numpy as np
import jax
import flaxmodels as fm
from flaxmodels import params as fp, sharding as fs
import flaxmodels.hub.client as client
client.pause = lambda *_: None
fs.initialize(coordinator_address=f"127.0.0.1:{port}", num_processes=2, process_id=rank)
mesh = fs.make_mesh(stage=2, fsdp=2, tensor=2)  # the stages are the processes
options = dict(
    mesh=mesh, rules=(("layers", "stage"), ("vocab", None), *fs.DEFAULT_RULES), scan_layers=True
)
expected = fp.flatten(fm.AutoModelForCausalLM.from_pretrained(source, scan_layers=True)[1])
said = {}
for cls in (fm.LlamaForCausalLM, fm.AutoModelForCausalLM):
    try:
        _, params, info = cls.from_pretrained(
            name, progress=False, output_loading_info=True, **options
        )
    except Exception as error:
        said[cls.__name__] = f"{type(error).__name__}: {error}"
        continue
    same = all(
        np.array_equal(shard.data, expected[path][shard.index])
        for path, leaf in fp.flatten(params).items()
        for shard in leaf.addressable_shards
    )
    said[cls.__name__] = [same, info.revision]
print(json.dumps(said))
"""


def run_both(hub, tmp_path):
    """What each process says; each has a cache of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        _children.Child(
            *("-c", PROGRAM, str(rank), str(port), NAME, SHARDED),
            env=hub_environment(hub, tmp_path / str(rank)),
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), said
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


@pytest.fixture
def commit(hub):
    return hub.commit(NAME, files_of(SHARDED))


def test_P13_15_all_take_the_commit_of_the_first(hub, commit, tmp_path):
    """The branch moves once process 0 has asked where it is; a second load goes by the new one."""
    moved = []

    def move(_):
        moved.append(hub.commit(NAME, {"README.md": b"x"}))

    hub.fault(Fault("hook", path="/api/models/*/main", when="after", call=move))
    said = run_both(hub, tmp_path)
    assert (
        said == [{"LlamaForCausalLM": [True, commit], "AutoModelForCausalLM": [True, moved[0]]}] * 2
    )
    mains = hub.requests.of("GET", "/api/models/*/main")
    assert len(mains) == 2  # one for each load
    kept = [
        os.listdir(tmp_path / f"{rank}/hf/hub/models--org--name/snapshots/{commit}")
        for rank in range(2)
    ]
    # Of the first layer, nothing is in the third shard.
    assert [sorted({*SHARDS} & {*names}) for names in kept] == [[*SHARDS[:2], SHARDS[3]], SHARDS]


# An error of process 0 is raised by both in the push of tests/hub/test_push.py, too.
@some_of("what", ["listing", "shard"], "shard")
def test_R6_the_error_of_one_is_raised_by_all(what, hub, commit, tmp_path):
    """Process 0 alone asks for the branch; process 1 alone needs the third shard."""
    if what == "listing":
        hub.fault(Fault("status", path="/api/models/*/main", code=403, times=None))
        failed, start = 0, "HubError: there is no folder or file 'org/name' here, and on the Hub: "
        sees = "org/name, revision main: the Hub refuses (403)"
    else:
        hub.fault(Fault("status", method="HEAD", path=f"*/{SHARDS[2]}", code=403, times=None))
        failed, start, sees = 1, "HubError: org/name", f"{SHARDS[2]}: the Hub refuses (403)"
    said = run_both(hub, tmp_path)
    for error in said[failed].values():
        assert error.startswith(start) and sees in error
    for error in said[1 - failed].values():
        assert error.startswith(f"CheckpointError: process {failed} failed: HubError: ")
