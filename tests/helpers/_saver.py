"""Saves that are killed, fail, and race each other; run as a program, prints JSON.

    python _saver.py GOLDEN FOLDER MODE {random N | killed STEP | full STEP | raced N | endless}
    python _saver.py serve SOCKET

The latter, a program of `_children.py`, takes pairs from a `multiprocessing.connection`: the
arguments of the former, and a shell script that mounts something for this run alone, or "". Each
is run in a child, which need not import or trace anything; what it says comes back, and then
{"status": the child's}.

MODE is one of PLACES, and what else is to be so, joined by "+": "in-place+orbax+checksums".
Imports once and forks a child for each save. Children touch no device: their params are NumPy's.
orbax is used by children alone, which could not go on with its threads.
"""

import builtins
import functools
import itertools
import json
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.params.atomic import replace as replace_module
from flaxmodels.params.atomic.replace import settled
from flaxmodels.params.formats.checksums import verify

PLACES = {
    "swap": "a folder of the checkpoint alone, which changes places with the new one",
    "in-place": "a folder that holds other files",
    "no-exchange": "a disk that cannot make folders change places",
    "late": "a folder that turns out not to change places only when it should",
    "mount": "a folder that its disk will not rename: a mount point, an image's",
}
CALLS = ("open", "mkdir", "rmdir", "replace", "rename", "unlink", "fsync", "write", "listdir")


PARENT = os.getpid()


@functools.cache
def model_of(golden: str) -> fm.LlamaForCausalLM:
    """The model, which traces in a child: tracing starts XLA's threads, and a fork while one of
    them holds a lock leaves a child that waits for it without end."""
    model = fm.LlamaForCausalLM(fm.LlamaConfig.from_pretrained(golden))
    template = pickle.loads(said_by_child(lambda: pickle.dumps(model.abstract_params())))
    fm.LlamaForCausalLM.abstract_params = lambda self, param_dtype=None: template
    return model


class Saver:
    def __init__(self, golden: str, folder: str, mode: str):
        place, *words = mode.split("+")
        in_place = place == "in-place"
        self.how: dict[str, Any] = {"checksums": "checksums" in words}
        if formats := {"orbax", "msgpack"} & {*words}:
            self.how["format"] = formats.pop()
        self.forks = self.how.get("format") == "orbax"
        real = replace_module._exchange
        if place in ("no-exchange", "late"):

            def refused(a: Path, b: Path) -> None:
                if place == "no-exchange" or b == self.folder:
                    raise OSError(18, "Invalid cross-device link", str(b))
                real(a, b)

            replace_module._exchange = refused
        self.model = model_of(golden)
        self.template = fp.flatten(self.model.abstract_params())
        self.folder = Path(folder)
        self.in_place = in_place
        self.is_one_step = place == "swap"  # config and weights

    def params(self, value: int):
        leaves = {p: np.full(x.shape, value, np.float32) for p, x in self.template.items()}
        return fp.unflatten(leaves)

    def save(self, value: int) -> None:
        """Params that are `value` everywhere, in several shards, with a config that says it too."""
        config = self.model.config.replace(prefix=value) if self.is_one_step else self.model.config
        model = self.model.clone(config=config)
        how = {"is_main_process": True, "progress": False} | self.how
        if self.how.get("format") != "orbax":
            how["max_shard_size"] = "10KB"
        model.save_pretrained(self.params(value), self.folder, **how)

    def found(self) -> int:
        """The value that the whole checkpoint has; raises if it is no checkpoint or a mixture."""
        if self.forks and os.getpid() == PARENT:
            return self._found_by_child()
        source = settled(self.folder, lambda: fp.open_checkpoint(self.folder))
        assert len(source.tensors) == len(self.template) and (self.forks or len(source.files) > 3)
        if self.how["checksums"]:
            verify(source, str(self.folder / "config.json"))
        values = {float(v) for t in source.tensors.values() for v in np.unique(t.read())}
        if self.is_one_step:
            values.add(float(json.loads((self.folder / "config.json").read_text())["prefix"]))
        assert len(values) == 1, f"a mixture of {values}"
        return int(values.pop())

    def _found_by_child(self) -> int:
        return int(said_by_child(lambda: str(self.found()).encode()))

    def fresh(self) -> None:
        """An old checkpoint of zeros."""
        self.by_child(0)
        if self.in_place and not (self.folder / "runs").exists():
            (self.folder / "README.md").write_text("mine")
            (self.folder / "runs").mkdir(exist_ok=True)
            self.by_child(0)

    def by_child(self, value: int) -> None:
        """Saves; in a child, where this process must not."""
        if not self.forks:
            self.save(value)
        elif os.waitpid(child(lambda: self.save(value)), 0)[1]:
            raise AssertionError("the save failed, see the traceback")

    def intact(self) -> bool:
        if not self.in_place:
            return True
        return (self.folder / "README.md").read_text() == "mine" and (self.folder / "runs").is_dir()


def child(action: Callable[[], object]) -> int:
    """Runs `action` in a child -> its process id. Threads that were joined may still be ending,
    with locks that nobody would let go of in the child: they are waited for."""
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.001)
    process = os.fork()
    if process:
        return process
    try:
        action()
        os._exit(0)
    except fp.CheckpointError:
        if os.environ.get("SAVER_SAYS"):
            traceback.print_exc()
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(2)


def said_by_child(action: Callable[[], bytes]) -> bytes:
    """Returns what `action` returns in a child."""
    read, write = os.pipe()
    process = child(lambda: os.write(write, action()))
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(process, 0)
    assert said, "the child failed, see the traceback"
    return said


def at_call(index: int, action) -> None:
    """From the `index`-th call on that touches files, `action()` comes before each."""
    count = 0

    def wrapped(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count > index:
                action()
            return function(*args, **kwargs)

        return call

    builtins.open = wrapped(open)
    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    replace_module._exchange = wrapped(replace_module._exchange)


def killed_at_random(saver: Saver, times: int) -> dict:
    saver.fresh()
    start = time.perf_counter()
    os.waitpid(child(lambda: saver.save(0)), 0)
    duration = time.perf_counter() - start
    rng = random.Random(0)
    outcome = {"old": 0, "new": 0, "finished": 0, "wrong": []}
    old = 0
    for new in range(1, times + 1):
        process = child(lambda value=new: saver.save(value))
        time.sleep(rng.uniform(0, 1.2 * duration))
        os.kill(process, signal.SIGKILL)
        outcome["finished"] += os.waitpid(process, 0)[1] == 0
        try:
            value = saver.found()
            assert value in (old, new) and saver.intact(), f"{value} is neither {old} nor {new}"
            outcome["new" if value == new else "old"] += 1
            duration *= 0.7 if value == new else 1.4  # both happen, however busy the machine is
            old = value
        except Exception as error:
            outcome["wrong"].append(f"{type(error).__name__}: {error}")
            saver.fresh()
            old = 0
    saver.by_child(-1)
    return outcome | {"left": left_over(saver)}


def killed_beside_others(saver: Saver, times: int, seed: int) -> dict:
    """As `killed_at_random`, while another such program saves into the folder too."""
    rng, outcome = random.Random(seed), {"whole": 0, "finished": 0, "wrong": []}
    duration = 0.3
    for _ in range(times):
        start = time.perf_counter()
        process = child(lambda: saver.save(rng.randrange(1 << 20)))
        time.sleep(rng.uniform(0, 1.5 * duration))
        os.kill(process, signal.SIGKILL)
        if finished := os.waitpid(process, 0)[1] == 0:
            duration = time.perf_counter() - start
        outcome["finished"] += finished
        try:
            outcome["whole"] += saver.found() >= 0
        except Exception as error:
            outcome["wrong"].append(f"{type(error).__name__}: {error}")
    return outcome


def stopped_at_each_call(saver: Saver, action, step: int) -> dict:
    """One save for each `step`-th call that touches a file, stopped just before it."""
    outcome = {"old": 0, "new": 0, "other errors": 0, "wrong": []}
    index = 0
    while True:
        saver.fresh()

        def run(index=index):
            at_call(index, action)
            saver.save(1)

        _, status = os.waitpid(child(run), 0)
        try:
            value = saver.found()
            assert value in (0, 1) and saver.intact()
            outcome["new" if value else "old"] += 1
        except Exception as error:
            outcome["wrong"].append(f"call {index}: {type(error).__name__}: {error}")
        outcome["other errors"] += os.WIFEXITED(status) and os.WEXITSTATUS(status) == 2
        if status == 0:
            break
        index += step
    saver.save(-1)
    return outcome | {"calls": index, "left": left_over(saver)}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full() -> None:
    raise OSError(28, "No space left on device")


def raced(saver: Saver, savers: int, times: int) -> dict:
    """Several processes save at once."""
    saver.fresh()

    def run(base):
        for i in range(times):
            saver.save(base + i)

    children = [child(lambda base=1000 * (i + 1): run(base)) for i in range(savers)]
    statuses = [os.waitpid(process, 0)[1] for process in children]
    return {"failed": sum(map(bool, statuses)), "found": saver.found(), "left": left_over(saver)}


def endless(saver: Saver, say: Callable[[dict], None]) -> None:
    saver.fresh()
    say({"saving": os.getpid()})
    for value in itertools.count(1):
        saver.save(value)


def left_over(saver: Saver) -> list[str]:
    inside, beside = os.listdir(saver.folder), os.listdir(saver.folder.parent)
    return [name for name in (*inside, *beside) if ".tmp-" in name]


def serve(address: str) -> None:
    import orbax.checkpoint  # noqa: F401  once, not in each child

    with Client(address) as connection:
        while True:
            try:
                arguments, mounts = connection.recv()
            except EOFError:
                return
            model_of(arguments[0])
            status = os.waitpid(child(lambda: serve_one(connection.send, arguments, mounts)), 0)[1]  # noqa: B023
            connection.send({"status": status})


def serve_one(say: Callable[[dict], None], arguments: list[str], mounts: str) -> None:
    global PARENT
    PARENT = os.getpid()
    if mounts:
        from _children import mount_apart

        mount_apart(mounts)
    run(say, *arguments)


def run(
    say: Callable[[dict], None], golden: str, folder: str, mode: str, kind: str, *rest: str
) -> None:
    saver = Saver(golden, folder, mode)
    if saver.forks:
        import orbax.checkpoint  # noqa: F401  once, not in each child
    runs = {
        "random": lambda: killed_at_random(saver, int(rest[0])),
        "killed": lambda: stopped_at_each_call(saver, kill, int(rest[0])),
        "full": lambda: stopped_at_each_call(saver, full, int(rest[0])),
        "raced": lambda: raced(saver, 3, int(rest[0]) if rest else 20),
        "endless": lambda: endless(saver, say),
        "beside": lambda: killed_beside_others(saver, int(rest[0]), int(rest[1])),
        "last": lambda: saver.by_child(0) or {"left": left_over(saver)},
    }
    say(runs[kind]())


if __name__ == "__main__":
    tqdm.set_lock(threading.RLock())  # its own is shared with forked children, which are killed
    tqdm.monitor_interval = 0  # no thread
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        run(lambda said: print(json.dumps(said), flush=True), *sys.argv[1:])
