"""Processes that are about to do different things: each says who has what, before a weight is read
or written; one that does not come is named after the limit."""

import shutil

import numpy as np
import pytest
from _paths import LLAMA
from _runs import Run

import flaxmodels as fm

PROGRAM = """
source, other, folder = given
from flaxmodels.params import peers
join(agreement_timeout_seconds=90, work_timeout_seconds=80)
limits = {name: peers._limit(name) for name in peers.LIMITS}
say("limits", limits)
peers._limit = lambda name: limits[name]
mesh = fs.make_mesh(fsdp=4)
rules = (("vocab", None), *fs.DEFAULT_RULES)
odd = number == 1

def load(source=source, mesh=mesh, **more):
    return fm.LlamaForCausalLM.from_pretrained(
        source, mesh=mesh, progress=False, **{"rules": rules} | more
    )

loads = {
    "param_dtype": lambda: load(param_dtype="float32" if odd else jnp.bfloat16),
    "mesh": lambda: load(mesh=fs.make_mesh(fsdp=2, tensor=2) if odd else mesh),
    "rules": lambda: load(rules=(("mlp", None), *rules) if odd else rules),
    "memory": lambda: load(max_host_memory="1MiB" if odd else "2MiB"),
    "config": lambda: load(rms_norm_eps=1e-3 if odd else 1e-6),
    "files": lambda: load(other if odd else source),
    "folder": lambda: load("/nowhere/at all" if odd else source),
    "class": lambda: (fm.LlamaModel if odd else fm.LlamaForCausalLM).from_pretrained(
        source, mesh=mesh, rules=rules, progress=False),
}
for name, action in loads.items():
    say(name, said_of(lambda: bool(action())))
model, params = load()

def save(folder=folder, params=params, **more):
    model.save_pretrained(params, folder, progress=False, **more)

ids, keys = np.arange(8)[None], [jax.random.key(i) for i in range(2)]

def generate(ids=ids, **more):
    return bool(model.generate(params, ids, **{"max_new_tokens": 2} | more))

generations = {
    "generate tokens": lambda: generate(max_new_tokens=3 if odd else 2),
    "generate prompt": lambda: generate(ids[:, :5] if odd else ids),
    "generate ids": lambda: generate(ids + odd),
    "generate key": lambda: generate(do_sample=True, key=keys[odd]),
    "generate draw": lambda: generate(do_sample=True, key=keys[0], temperature=1.5 if odd else 2.0),
    "generate call": lambda: generate() if odd else [*model.stream(params, ids, max_new_tokens=2)],
}
for name, action in generations.items():
    say(name, said_of(action))

tokens = model.generate(params, ids % 7, max_new_tokens=2).sequences
say("tokens", np.asarray(tokens.addressable_data(0)).tolist())
_, halves = load(param_dtype="bfloat16")
saves = {
    "save folder": lambda: save(folder + "/b" if odd else folder),
    "save format": lambda: save(format="msgpack" if odd else None),
    "save dtype": lambda: save(params=halves if odd else params),
    "save size": lambda: save(max_shard_size="1MB" if odd else "2MB"),
}
for name, action in saves.items():
    say(name, said_of(action))
say("other call", said_of(lambda: bool(load()) if odd else save()))
say("in step again", said_of(lambda: bool(load())))
limits["agreement"] = 2
say("absent", said_of(lambda: None if odd else save()))
if odd:
    time.sleep(4)
    say("late", said_of(save))
limits |= {"agreement": 90, "work": 2}

from flaxmodels.params.formats.source import Tensor
fill, slow = Tensor.fill, iter([4])

def fill_slowly(*args):
    time.sleep(next(slow, 0) if odd else 0)
    fill(*args)

Tensor.fill = fill_slowly
say("slow", said_of(lambda: bool(load())))
"""

EXPECTED = {
    "param_dtype": "param_dtype: process 0 has bfloat16, process 1 has float32",
    "mesh": "mesh: process 0 has fsdp 4 of devices ",
    "rules": "rules: process 0 has (('vocab', None), ",
    "memory": "max_host_memory: process 0 has 2.10 MB, process 1 has 1.05 MB",
    "config": "config.rms_norm_eps: process 0 has 1e-06, process 1 has 0.001",
    "files": "files: process 0 has 1 files of ",
    "folder": "name_or_path: process 0 has a folder on its disk, process 1 has '/nowhere/at all', "
    "which is not on its disk",
    "class": "call: process 0 has LlamaForCausalLM.from_pretrained, process 1 has LlamaModel.from",
    "generate tokens": "max_new_tokens: process 0 has 2, process 1 has 3",
    "generate prompt": "input_ids: process 0 has (1, 8) [[0, 1, 2, 3, 4, 5, 6, 7]], process 1 has "
    "(1, 5) [[0, 1, 2, 3, 4]]",
    "generate ids": "process 1 has (1, 8) [[1, 2, 3, 4, 5, 6, 7, 8]]",
    "generate key": "key: process 0 has (2,) [0, 0], process 1 has (2,) [0, 1]",
    "generate draw": "temperature: process 0 has () 2.0, process 1 has () 1.5",
    "save folder": "folder: process 0 has ",
    "save format": "weights_format: process 0 has safetensors, process 1 has msgpack",
    "save dtype": "leaves: process 0 has 21 float32",
    "save size": "max_shard_size: process 0 has 2MB, process 1 has 1MB",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each of two processes says of each case."""
    folder = tmp_path_factory.mktemp("agreement")
    shutil.copytree(LLAMA, folder / "other")
    data = bytearray((folder / "other/model.safetensors").read_bytes())
    at = data.index(b"lm_head")
    data[at : at + 7] = b"head_lm"  # the same bytes under another name: the headers differ
    (folder / "other/model.safetensors").write_bytes(data)
    return Run(PROGRAM, LLAMA, folder / "other", folder / "saved", count=2).said(), folder


@pytest.mark.parametrize("case", EXPECTED)
def test_where_processes_differ_each_says_who_has_what(case, said):
    first, second = (of[case]["error"] for of in said[0])
    assert first == second and EXPECTED[case] in first
    call = {"save": "a save", "generate": "generate"}.get(case.partition(" ")[0], "a load")
    assert first.startswith(f"Disagreement: {call}: ")
    assert "all processes of a run must ask for the same" in first
    assert not list(said[1].glob("saved*"))  # nothing was begun


def test_processes_in_different_calls_say_so_and_may_go_on(said):
    for of in said[0]:
        assert (
            "process 0 is in the agreement of a save, and process 1 in the agreement of a load"
            in (of["other call"]["error"])
        )
        assert (
            "process 0 is in the agreement of stream, and process 1 in the agreement of gen"
            in (of["generate call"]["error"])
        )
        assert of["in step again"] == {"result": True}


def test_they_generate_what_one_generates(said):
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    tokens = model.generate(params, np.arange(8)[None] % 7, max_new_tokens=2).sequences
    assert [of["tokens"] for of in said[0]] == [tokens.tolist()] * 2


def test_one_that_does_not_come_is_named_after_the_limit(said):
    first, second = said[0]
    assert first["limits"] == {"agreement": 90, "work": 80}  # until the program sets others
    late = "process 1 did not come to the agreement of a save within 2 s"
    assert late in first["absent"]["error"] and 2 <= first["absent"]["seconds"] < 10
    assert first["absent"]["error"] == second["late"]["error"]


def test_one_that_reads_longer_than_the_others_wait_is_named(said):
    first, second = said[0]
    late = "process 1 did not come to the end of reading weights within 2 s"
    assert late in first["slow"]["error"] and first["slow"]["error"] == second["slow"]["error"]
    assert 2 <= first["slow"]["seconds"] < 10
