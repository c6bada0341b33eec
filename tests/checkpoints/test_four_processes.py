"""Four processes with two devices each: they load, compute, generate, save and load again as one
process does, for each way to spread params; faults of one disk, and disks of their own."""

import json

import jax
import numpy as np
import pytest
from _drawn import tiny_llama
from _runs import Run
from _turns import some_of
from _weights import uniform

import flaxmodels as fm
from flaxmodels import params as fp

CONFIG = tiny_llama(
    vocab_size=128,
    hidden_size=128,
    intermediate_size=128,
    num_hidden_layers=1,
    num_attention_heads=8,
    max_position_embeddings=32,
)
IDS = [[5, 9, 2, 7], [1, 3, 3, 8]]
PLACES = {
    "replicated": {"data": 8},
    "fsdp": {"fsdp": 8},
    "tensor": {"tensor": 8},
    "fsdp+tensor": {"fsdp": 2, "tensor": 4},
    "expert": {"fsdp": 2, "expert": 4},
    "sequence": {"fsdp": 4, "tensor": 2},
}
BY_DEFAULT = ("replicated", "fsdp")
"""Two axes at once are loaded in `test_device_processes.py` and saved in `test_processes.py`."""
each_place = some_of("place", [*PLACES], *BY_DEFAULT)
WHOLE_ROWS = {"fsdp": "down_proj", "tensor": "up_proj", "sequence": "down_proj"}
"""A kernel whose shards are whole rows of its file, so that each process reads what it holds."""


PROGRAM = """
import hashlib, warnings
import flaxmodels.checkpoints.model_plan as planning
import flaxmodels.params.checkpoint.make_plan as plans
import flaxmodels.params.save.blocks as blocks
import flaxmodels.params.save.several_processes as together
from flaxmodels.params.formats.files import File
source, folder, places = given[0], given[1], json.loads(given[2])
join()
ids = np.asarray(json.loads(given[3]))
jax.config.update("jax_disable_most_optimizations", True)
made, read, sent, written = [], [], [], []
counted, send, pwrite = File._count, together.send, os.pwrite
File._count = lambda self, number: (read.append(number), counted(self, number))[1]
together.send = lambda data, mine: (sent.append(data.nbytes), send(data, mine))[1]
os.pwrite = lambda file, data, at: (written.append(len(data)), pwrite(file, data, at))[1]

def load(source, place, rules, route="auto"):
    def make_plan(*args, **kwargs):
        made.append(plans.make_plan(*args, **kwargs, route=route))
        return made[-1]

    planning.make_plan = make_plan
    return fm.LlamaForCausalLM.from_pretrained(
        source,
        mesh=fs.make_mesh(**place),
        rules=rules,
        progress=False,
        max_host_memory=1 << 20,  # with which small leaves, read by all, are below 8 KiB
    )

def hashes(params):
    return {
        f"{path} {shard.index}": hashlib.sha256(np.asarray(shard.data).tobytes()).hexdigest()
        for path, leaf in fp.flatten(params).items() for shard in leaf.addressable_shards
    }

def whole(x):
    return np.asarray(jax.experimental.multihost_utils.process_allgather(x, tiled=True)).tolist()

def save(model, params, name, **more):
    written.clear(), sent.clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.save_pretrained(params, f"{folder}/{name}", progress=False, **more)
    return {"written": sum(written), "sent": sent[:], "warned": [str(w.message) for w in said]}

from jax.experimental import multihost_utils
for name, place in places.items():
    read.clear()
    model, params = load(source, place, name)
    said = {"read": sum(read), "share": sum(x.nbytes for x in jax.tree.leaves(params)) / count}
    said["routes"] = {leaf.path: str(leaf.route) for leaf in made[-1].leaves}
    read.clear()
    said["as alone"] = hashes(params) == hashes(load(source, place, name, "host")[1])
    said["read alone"] = sum(read)
    if json.loads(given[4]) and name == "fsdp":
        said["tokens"] = whole(model.generate(params, ids, max_new_tokens=4).sequences)
    elif json.loads(given[4]):
        def forward(params):
            return model.apply({"params": params}, ids).logits

        forward = jax.jit(forward, out_shardings=jax.NamedSharding(fs.make_mesh(**place), jax.P()))
        said["logits"] = np.asarray(forward(params).addressable_data(0)).tolist()
    said |= save(model, params, name, max_shard_size="150KB")
    said["equal"] = hashes(params) == hashes(load(f"{folder}/{name}", place, name)[1])
    say(name, said)

def lost(path, *args, before=together._write_at):
    if number in (1, 3) and "probe" in path:
        raise FileNotFoundError(2, "No such file or directory")
    return before(path, *args)

plain, together._write_at = together._write_at, lost
blocks.CHUNK = 32768  # half a kernel
say("own disks", save(model, params, "own disks"))
say("own disks, orbax", said_of(lambda: save(model, params, "orbax", format="orbax")))
together._write_at = plain
blocks.CHUNK = 8 << 20

def full(file, data, at):
    if len(data) > 64:  # not the probe
        raise OSError(28, "No space left on device")
    return pwrite(file, data, at)

halves = jax.tree.map(
    lambda leaf: jax.make_array_from_single_device_arrays(
        leaf.shape,
        leaf.sharding,
        [jax.device_put(np.asarray(x.data) / 2, x.device) for x in leaf.addressable_shards],
    ),
    params,
)
for process in (0, count - 1):
    begun, os.pwrite = os.pwrite, full if number == process else os.pwrite
    name = "full last" if process else "full first"
    say(name, said_of(lambda: save(model, halves, "fsdp")))
    os.pwrite = begun
say("two mains", said_of(lambda: save(model, halves, "fsdp", is_main_process=number < 2)))
say("main is last", save(model, params, "last", is_main_process=number == count - 1))
say("equal", hashes(params) == hashes(load(f"{folder}/last", place, [*places][-1])[1]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    model = fm.LlamaForCausalLM(CONFIG)
    leaves = {p: 0.2 * uniform(p, x.shape) for p, x in fp.flatten(model.abstract_params()).items()}
    model.save_pretrained(fp.unflatten(leaves), folder / "ck", progress=False)
    return folder


@pytest.fixture(scope="module", params=[4, pytest.param(2, marks=pytest.mark.soak)])
def said(request, source, thorough):
    """What each process says."""
    folder = source / str(request.param)
    places = {name: PLACES[name] for name in (PLACES if thorough else BY_DEFAULT)}
    arguments = (source / "ck", folder, *map(json.dumps, (places, IDS, thorough)))
    return folder, Run(PROGRAM, *arguments, count=request.param, devices=8).said()


@pytest.fixture(scope="module")
def alone(source):
    """The model and params as one process loads them."""
    return fm.LlamaForCausalLM.from_pretrained(source / "ck")


@pytest.mark.soak  # by default the params are compared, and tokens in test_agreement.py
@pytest.mark.parametrize("place", PLACES)
def test_they_compute_what_one_computes(place, said, alone):
    model, params = alone
    ids = np.asarray(IDS)
    for of in said[1]:
        if place == "fsdp":
            tokens = model.generate(params, ids, max_new_tokens=4).sequences
            assert of[place]["tokens"] == tokens.tolist()
        else:
            logits = jax.jit(model.apply)({"params": params}, ids).logits
            np.testing.assert_allclose(of[place]["logits"], logits, atol=1e-4, rtol=1e-4)


@each_place
def test_each_reads_its_share_of_one_reading_of_the_checkpoint(place, said):
    for of in said[1]:
        assert of[place]["as alone"]
        assert of[place]["read"] <= 1.05 * of[place]["share"]
        if len(said[1]) == 4:  # what it would be
            assert of[place]["read alone"] > 1.5 * of[place]["share"]
        kernels = {p: route for p, route in of[place]["routes"].items() if p.endswith("kernel")}
        exchanged = {route for route in kernels.values() if route != "host"}
        assert exchanged and all(r.startswith("device, exchanged over ") for r in exchanged)
        if len(said[1]) == 4 and place in WHOLE_ROWS:
            assert kernels[f"model/layers/0/mlp/{WHOLE_ROWS[place]}/kernel"] == "host"


@each_place
def test_each_writes_its_part_and_nothing_is_sent(place, said, alone):
    folder, of = said
    assert all(one[place]["equal"] for one in of)
    written = [one[place]["written"] for one in of]
    size = sum(path.stat().st_size for path in (folder / place).glob("*.safetensors"))
    assert size <= sum(written) < size + 4096  # the probe
    assert max(written) < 1.05 * size / len(of) + 8192  # headers are of the first
    assert [one[place]["sent"] for one in of] == [[]] * len(of)
    _, found = fm.LlamaForCausalLM.from_pretrained(folder / place)
    jax.tree.map(np.testing.assert_array_equal, found, alone[1])


def test_without_a_shared_disk_one_writes_and_chunks_are_sent(said, alone):
    folder, of = said
    _, found = fm.LlamaForCausalLM.from_pretrained(folder / "own disks")
    jax.tree.map(np.testing.assert_array_equal, found, alone[1])
    (warned,) = of[0]["own disks"]["warned"]
    strangers = [i for i in (1, 3) if i < len(of)]
    assert f"{', '.join(map(str, strangers))} cannot write there" in warned
    assert "process 0 writes everything" in warned
    assert [one["own disks"]["warned"] for one in of[1:]] == [[]] * (len(of) - 1)
    for one in of:
        assert 0 < max(one["own disks"]["sent"]) <= 32768
    errors = {one["own disks, orbax"]["error"].partition("CheckpointError: ")[2] for one in of}
    assert any("a disk that all see" in error for error in errors)


@pytest.mark.parametrize("process", ["first", "last"])
def test_a_disk_that_is_full_for_one_is_an_error_of_all(process, said, alone):
    folder, of = said
    for one in of:
        assert "No space left on device" in one[f"full {process}"]["error"]
        assert "safetensors" in one[f"full {process}"]["error"]
    _, found = fm.LlamaForCausalLM.from_pretrained(folder / "fsdp")
    jax.tree.map(np.testing.assert_array_equal, found, alone[1])
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_one_process_is_the_main_one(said):
    _, of = said
    for one in of:
        assert "processes 0, 1 want to give it" in one["two mains"]["error"]
        assert one["equal"]
