"""Two processes, each with half of the devices, load and save one checkpoint together."""

import json
import socket

import _children
import jax
import numpy as np
import pytest
from _paths import LLAMA

import flaxmodels as fm

PROGRAM = """
import json, os, sys
rank, port, folder, source, *faults = int(sys.argv[1]), *sys.argv[2:]
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"
import jax
import jax.numpy as jnp
import flaxmodels as fm
from flaxmodels import params as fp, sharding as fs
from flaxmodels.params.formats.source import Tensor
fs.initialize(coordinator_address=f"localhost:{port}", num_processes=2, process_id=rank)
mesh = fs.make_mesh(stage=2, fsdp=2, tensor=2)  # the stages are the processes
rules = (("vocab", None), *fs.DEFAULT_RULES)
fill, fsync = Tensor.fill, os.fsync

def broken(*args):
    raise fm.CheckpointError("a disk of process 1 is broken")

def full(*args):
    raise OSError(28, "No space left on device")

def load_and_save(fault, scan, folder, said):
    stack = (("layers", "stage"), *rules)  # of a looped model nothing: a copy in each process
    Tensor.fill = broken if fault == "load" and rank == 1 else fill
    made = fault == "packed" and not scan  # and then read as it was saved
    model, params = fm.LlamaForCausalLM.from_pretrained(
        os.path.join(folder, "False") if fault == "packed" and scan else source,
        quantization_config={"scheme": "nf4", "block": 16} if made else None,
        mesh=mesh, rules=stack, scan_layers=scan, progress=False,
    )
    spread = [not leaf.is_fully_addressable for leaf in jax.tree.leaves(params)]
    said["spread"] = all(spread)
    if fault == "full" and rank == 0:
        os.fsync = full
    if fault == "folder":
        folder = os.path.join(source, "config.json", "inside")
    model.save_pretrained(
        params, os.path.join(folder, str(scan)), max_shard_size="20KB", progress=False
    )
    if fault == "none":
        model.save_pretrained(params, os.path.join(folder, f"{scan}-orbax"), format="orbax")

for fault in faults:
    said = {}
    for scan in (False, True):
        try:
            load_and_save(fault, scan, os.path.join(folder, fault), said)
        except fm.CheckpointError as error:
            said["error"] = str(error)
        except OSError as error:
            said["error"] = f"{type(error).__name__}: {error}"
        os.fsync = fsync
    print(json.dumps({fault: said}))
"""
FAULTS = ("none", "packed", "full", "folder", "load")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """(a folder with one for each fault, what each process says of each)."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        _children.Child("-c", PROGRAM, str(rank), str(port), folder, LLAMA, *FAULTS)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=240) for process in processes]
    assert all(process.returncode == 0 for process in processes), said
    lines = [out.splitlines()[-len(FAULTS) :] for out, _ in said]
    return folder, [{k: v for line in of for k, v in json.loads(line).items()} for of in lines]


@pytest.mark.parametrize("end", ["", "-orbax"])
@pytest.mark.parametrize("scan", [False, True])
def test_R6_every_process_takes_part_and_one_writes(scan, end, together):
    folder, said = together
    assert [of["none"] for of in said] == [{"spread": True}, {"spread": True}]
    _, expected = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    _, params = fm.LlamaForCausalLM.from_pretrained(folder / "none" / f"{scan}{end}")
    for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))


@pytest.mark.parametrize("scan", [False, True])
def test_P10_processes_quantise_and_save_together(scan, together):
    folder, said = together
    assert [of["packed"] for of in said] == [{"spread": True}, {"spread": True}]
    scheme = {"scheme": "nf4", "block": 16}
    _, expected = fm.LlamaForCausalLM.from_pretrained(LLAMA, quantization_config=scheme)
    _, params = fm.LlamaForCausalLM.from_pretrained(folder / "packed" / str(scan))
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))


@pytest.mark.parametrize("fault", ["full", "folder"])
def test_R6_the_error_of_one_is_raised_by_all(fault, together):
    folder, said = together
    first, second = (of[fault] for of in said)
    assert "No space left" in first["error"] or "config.json" in first["error"]
    assert second["error"].startswith("process 0 failed: CheckpointError: ")
    assert first["error"][:80] in second["error"]
    assert list((folder / fault).rglob("*.safetensors")) == []


def test_R6_a_load_that_fails_on_one_fails_on_all(together):
    first, second = (of["load"] for of in together[1])
    assert first["error"] == "process 1 failed: CheckpointError: a disk of process 1 is broken"
    assert second["error"] == "a disk of process 1 is broken"
