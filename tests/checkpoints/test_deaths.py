"""A process of a run dies, with `kill -9`, at each stage of a load and of a save: the others name
it and end within the limit, and the folder holds the old checkpoint or the new one, whole."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import _children
import jax
import numpy as np
import pytest
from _paths import LLAMA
from _runs import Run, values

import flaxmodels as fm

LIMIT = 15  # seconds from a death to the end of the others

PROGRAM = """
import signal
import flaxmodels.checkpoints.save as saving
import flaxmodels.params.multihost as multihost
import flaxmodels.params.save.several_processes as together
import flaxmodels.params.save.write as write
from flaxmodels.params.formats.source import Tensor
stage, victim, folder, source = given

def die(*args, **named):
    say("died", time.time())
    os.kill(os.getpid(), signal.SIGKILL)

def at(owner, name, *, call=1, when=lambda *args: True):
    '''Dies in the so many-th call of a function.'''
    before, calls = getattr(owner, name), iter(range(1, 1 << 30))
    def dying(*args, **named):
        if when(*args) and next(calls) == call:
            die()
        return before(*args, **named)
    setattr(owner, name, dying)

def label(start):
    return lambda what, *_: what.startswith(start)

STAGES = {
    "read": lambda: at(Tensor, "fill", call=3),
    "put": lambda: at(jax, "make_array_from_single_device_arrays", call=3),
    "barrier": lambda: at(multihost, "exchange", when=label("the end of reading")),
    "agreement": lambda: at(multihost.peers, "decide", when=label("the agreement of a save")),
    "write": lambda: at(together, "_write_at", call=9),
    "after writing": lambda: at(multihost, "exchange", when=label("the end of writing shards")),
    "before the index": lambda: at(write, "_write_index"),
    "after the index": lambda: at(saving, "write_side_files"),
    "after the rename": lambda: at(multihost, "exchange", when=label("the end of replacing")),
}
join()
if number == int(victim) and stage != "error":
    STAGES[stage]()
rules = (("vocab", None), *fs.DEFAULT_RULES)
try:
    model, params = fm.LlamaForCausalLM.from_pretrained(
        source, mesh=fs.make_mesh(fsdp=4), rules=rules, progress=False
    )
    if number == int(victim) and stage == "error":
        raise RuntimeError("of its own")
    params = jax.jit(lambda params: jax.tree.map(jnp.negative, params))(params)
    model.save_pretrained(params, folder, max_shard_size="20KB", progress=False)
except fm.CheckpointError as error:
    say("error", f"{type(error).__name__}: {error}")
    sys.exit(3)
"""


@pytest.fixture(scope="module")
def old():
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    return model, jax.tree.map(np.asarray, params)


@dataclasses.dataclass
class Death:
    """A run of which a process dies.

    Attributes:
        seconds: from the death to the end of the others.
        said: what each wrote to stdout and stderr.
    """

    run: Run
    victim: int
    seconds: float
    said: list[tuple[str, str]]

    @classmethod
    def seen(cls, run: Run, victim: int) -> "Death":
        run.processes[victim].wait(240)
        start = time.monotonic()
        said = run.ended()
        return cls(run, victim, time.monotonic() - start, said)


def started(stage, victim, count, folder, old) -> Run:
    model, params = old
    model.save_pretrained(params, folder, max_shard_size="20KB", progress=False)
    return Run(PROGRAM, stage, victim, folder, LLAMA, count=count)


def is_new(death, stage, folder, old) -> bool:
    """Checks what the others said -> whether the folder is the new checkpoint."""
    victim, said, processes = death.victim, death.said, death.run.processes
    assert death.seconds < LIMIT, said
    assert processes[victim].returncode == (-9 if stage != "error" else 1), said[victim]
    errors = set()
    for number in range(len(processes)):
        if number != victim:
            out, err = said[number]
            assert processes[number].returncode == 3, (out, err[-3000:])
            errors.add(values(out)["error"].partition("; this one")[0])
    assert len(errors) == 1
    (error,) = errors
    assert error.startswith("PeerLost: ") and f"process {victim} " in error
    print(f"{stage}, process {victim} of {len(processes)}: {death.seconds:.1f} s, {error}")
    _, params = old
    _, found = fm.LlamaForCausalLM.from_pretrained(folder)
    signs = {
        sign
        for sign in (1, -1)
        if all(
            np.array_equal(sign * one, two)
            for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(found), strict=True)
        )
    }
    assert len(signs) == 1  # one of the two, whole
    return signs == {-1}


# Of a load, of a save that is not whole, and of one that is; others: MORE, and STUCK for process 1.
CASES = [("read", 0), ("write", 1), ("after the index", 0), ("after the rename", 0)]


@pytest.fixture(scope="module")
def deaths(old, tmp_path_factory):
    """{case: (its death, its folder)}. All runs go on at once: each waits for heartbeats."""
    with ThreadPoolExecutor(len(CASES) + 1) as pool:
        begun = {"stuck": (pool.submit(Death.seen, Run(STUCK, LLAMA, count=2), 1), None)}
        for stage, victim in CASES:
            folder = tmp_path_factory.mktemp("dies") / "ck"
            run = started(stage, victim, 2, folder, old)
            begun[stage, victim] = pool.submit(Death.seen, run, victim), folder
        yield begun


@pytest.mark.parametrize(("stage", "victim"), CASES)
def test_when_a_process_is_killed_the_others_name_it_and_end(stage, victim, old, deaths):
    death, folder = deaths[stage, victim]
    assert is_new(death.result(), stage, folder, old) == (stage == "after the rename")


MORE = [
    *(("error", 1, 2), ("agreement", 1, 2), ("after writing", 1, 2), ("read", 1, 2)),
    *(("put", 1, 2), ("barrier", 1, 2), ("before the index", 0, 2)),
    *(("put", 1, 4), ("barrier", 1, 4), ("before the index", 0, 4)),
    *((stage, victim, 4) for stage, victim in CASES if stage != "after the rename"),
    *(("write", 3, 4), ("agreement", 0, 4), ("after writing", 2, 4)),
]


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "victim", "count"), MORE)
def test_kills_at_other_stages_and_of_four(stage, victim, count, old, tmp_path):
    run = started(stage, victim, count, tmp_path / "ck", old)
    assert not is_new(Death.seen(run, victim), stage, tmp_path / "ck", old)


STUCK = """
import signal
from flaxmodels.params import process_deaths
from flaxmodels.params.formats.source import Tensor
process_deaths._GRACE = 1.0

def fill(*args):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)  # as a collective of an accelerator would, or a disk

Tensor.fill = fill
join()
fm.LlamaForCausalLM.from_pretrained(given[0], mesh=fs.make_mesh(fsdp=4), progress=False,
    rules=(("vocab", None), *fs.DEFAULT_RULES))
"""


def test_one_that_cannot_be_interrupted_says_who_died_and_ends(deaths):
    death = deaths["stuck"][0].result()
    (_, err), _ = death.said
    assert death.seconds < LIMIT and death.run.processes[0].returncode == 1
    assert "PeerLost: process 1 of this run died; this one, 0, stops here" in err


STARTING = """
import threading
from flaxmodels.params import process_deaths

for turn in range(200):
    teller = threading.Timer(turn % 20 / 4000, process_deaths.raise_in, [threading.get_ident()])
    try:
        with process_deaths.WATCH.interrupting():
            teller.start()
            while True:  # raised when start() is all but done, threading makes a KeyError of it
                threading.Thread(target=int).start()
    except process_deaths.PeerLost:
        teller.join()
print("told")
"""


def test_news_of_a_death_reach_no_thread_that_has_not_begun():
    ended = _children.run("-c", STARTING, timeout=30)
    assert ended.stdout == "told\n", ended.stderr[-2000:]


GENERATING = """
import signal
import flaxmodels.generation.generate as generation

def decode(*args, before=generation.decode):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(*args)

generation.decode = decode
join()
model, params = fm.LlamaForCausalLM.from_pretrained(given[0], mesh=fs.make_mesh(fsdp=4),
    progress=False, rules=(("vocab", None), *fs.DEFAULT_RULES))
say("generate", said_of(lambda: bool(model.generate(params, np.arange(8)[None], max_new_tokens=2))))
"""


@pytest.mark.soak
def test_a_death_while_others_generate_is_named():
    run = Run(GENERATING, LLAMA, count=2)
    run.processes[1].wait(240)
    start = time.monotonic()
    (out, err), _ = run.ended()
    assert time.monotonic() - start < 2 * LIMIT, (out, err[-3000:])  # the program is compiled first
    assert values(out)["generate"]["error"].startswith("PeerLost: process 1 of this run died")
