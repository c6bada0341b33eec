"""Saving while the disk fills up, the process is killed, and others load or save."""

import fcntl
import gc
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import _children
import jax
import numpy as np
import pytest
from _paths import LLAMA, ROOT
from _turns import some_of

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.params.atomic import replace as replace_module
from flaxmodels.params.host import locks

SAVER = ROOT / "tests" / "helpers" / "_saver.py"


def ours(name):
    return name.startswith("w")


def head(name):
    return name == "w.index"


def replace(folder, files, **how):
    with replace_module.atomic_replace(folder, is_ours=ours, is_main_file=head, **how) as staging:
        for name, content in files.items():
            (staging.path / name).write_text(content)
        return staging


def contents(folder):
    return {p.name: p.read_text() for p in folder.iterdir() if p.is_file()}


class Savers:
    """The program of `_saver.py` as one process, which forks for each run."""

    def __init__(self, process: _children.Child, connection: Connection):
        self.process, self.connection = process, connection

    def start(self, folder: Path, mode: str, *what: str, mounts: str = "") -> dict[str, Any]:
        """Starts a run that saves into `folder` -> what it says first."""
        arguments = [str(LLAMA / "config.json"), str(folder / "ck"), mode, *what]
        self.connection.send((arguments, mounts))
        return self.said()

    def said(self) -> dict[str, Any]:
        if not self.connection.poll(300):
            self.process.kill()
        return self.connection.recv()

    def __call__(self, folder: Path, mode: str, *what: str, mounts: str = "") -> dict[str, Any]:
        outcome = self.start(folder, mode, *what, mounts=mounts)
        assert self.said() == {"status": 0}
        return outcome


@pytest.fixture(scope="module")
def saver() -> Iterator[Savers]:
    with Listener() as listener:
        process = _children.Child("-W", "ignore", SAVER, "serve", listener.address)
        with listener.accept() as connection:
            yield Savers(process, connection)
    process.wait()


@pytest.fixture
def memory(tmp_path):
    """A folder in memory where there is one: what a kill leaves does not depend on the disk, and
    hundreds of saves wait for it."""
    shared = "/dev/shm"
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


PLACES = pytest.mark.parametrize("mode", ["swap", "in-place"])


@pytest.mark.parametrize(
    "mode", ["swap+checksums", "in-place+checksums", "no-exchange+orbax+checksums", "late+msgpack"]
)
def test_kills_at_random_instants_leave_the_old_or_the_new(mode, memory, saver, thorough):
    kills = 200 if thorough else 8
    outcome = saver(memory, mode, "random", str(kills))
    assert outcome["wrong"] == [] and outcome["left"] == []
    assert outcome["old"] + outcome["new"] == kills
    assert outcome["old"] > 0 and outcome["new"] > 0, outcome


@pytest.mark.parametrize(
    ("how", "mode"),
    [
        ("killed", "swap"),
        ("killed", "in-place+checksums"),
        ("killed", "no-exchange+orbax+checksums"),
        pytest.param("killed", "late", marks=pytest.mark.soak),
        ("full", "swap"),
        pytest.param("full", "in-place+checksums", marks=pytest.mark.soak),
    ],
)
def test_a_stop_before_any_call_that_touches_a_file(how, mode, memory, saver, thorough):
    step = "1" if thorough else "30" if "orbax" in mode else "15"  # before each, each 15th
    outcome = saver(memory, mode, how, step)
    assert outcome["wrong"] == [] and outcome["left"] == [] and outcome["other errors"] == 0
    assert outcome["calls"] > 30 and outcome["old"] > 2 and outcome["new"] >= 1, outcome


@PLACES
def test_savers_at_once_leave_the_whole_of_one(mode, tmp_path, saver, thorough):
    saves = 20 if thorough else 6
    outcome = saver(tmp_path, mode, "raced", str(saves))
    assert outcome == {"failed": 0, "found": outcome["found"], "left": []}
    assert outcome["found"] % 1000 == saves - 1


READ = ["swap", "in-place", "swap+orbax", "no-exchange+orbax"]


@some_of("mode", READ, "swap", "in-place", "no-exchange+orbax")  # "swap" is of any format
def test_loads_while_another_process_saves(mode, tmp_path, saver, thorough):
    """Every load is of one save, its config included where folders change places."""
    gc.collect()  # files that other tests dropped count among those that may stay open
    folder = tmp_path / "ck"
    process = saver.start(tmp_path, mode, "endless")["saving"]
    try:
        seen = set()
        until = time.monotonic() + (20 if thorough else 0.3)
        while time.monotonic() < until or len(seen) < 3:
            model, params = fm.LlamaForCausalLM.from_pretrained(folder, progress=False)
            values = {float(v) for leaf in jax.tree.leaves(params) for v in np.unique(leaf)}
            if mode.startswith("swap"):
                values.add(float(model.config.prefix))
            assert len(values) == 1, values
            seen |= values
    finally:
        os.kill(process, signal.SIGKILL)
        saver.said()


@PLACES
def test_a_reader_slower_than_saves_has_the_whole_of_one(mode, tmp_path):
    folder, stop, calls = tmp_path / "f", threading.Event(), []

    def content(value):
        return {"w1": str(value), "w.index": str(value)}

    def endless():
        value = 0
        while not stop.is_set():
            replace(folder, content(value := value + 1))

    def read():
        calls.append(None)
        first = (folder / "w1").read_text()
        time.sleep(0.3)
        return first, (folder / "w.index").read_text()

    replace(folder, content(0))
    if mode == "in-place":
        (folder / "README").write_text("mine")
    thread = threading.Thread(target=endless)
    thread.start()
    try:
        first, second = replace_module.settled(folder, read)
    finally:
        stop.set()
        thread.join()
    assert first == second and len(calls) == 2


def test_a_folder_of_the_checkpoint_alone_changes_places(tmp_path):
    folder = tmp_path / "f"
    replace(folder, {"w1": "old", "w2": "old", "w.index": "old"})
    before = folder.stat().st_ino
    folder.chmod(0o750)
    staging = replace(folder, {"w1": "new", "w.index": "new"})
    assert staging.tag == "" and staging.path.parent == tmp_path
    assert contents(folder) == {"w1": "new", "w.index": "new"}
    assert folder.stat().st_ino != before and folder.stat().st_mode & 0o777 == 0o750
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("why", ["other file", "subfolder", "working directory", "no exchange"])
def test_any_other_folder_stays_itself(why, tmp_path, monkeypatch):
    folder = tmp_path / "f"
    replace(folder, {"w1": "old", "w2": "old", "w.index": "old"})
    if why == "other file":
        (folder / "README").write_text("mine")
    elif why == "subfolder":
        (folder / "runs").mkdir()
    elif why == "working directory":
        monkeypatch.chdir(folder)
    else:
        monkeypatch.setattr(
            replace_module, "_EXCHANGE", 1 << 20
        )  # EINVAL, as a disk without it says
    before = folder.stat().st_ino
    staging = replace(folder, {"w3": "new", "w.index": "new"})
    assert len(staging.tag) == 9 and staging.path.parent == folder
    assert contents(folder) == {"w3": "new", "w.index": "new"} | (
        {"README": "mine"} if why == "other file" else {}
    )
    assert folder.stat().st_ino == before
    assert os.listdir(tmp_path) == ["f"]


def test_the_head_comes_last_and_goes_first(tmp_path, monkeypatch):
    """At every step the index that is there refers to files that are there, on the disk."""
    folder = tmp_path / "f"
    replace(folder, {"w1": "old", "w.index": "old"})
    (folder / "README").write_text("mine")
    steps = []

    def spy(name, function):
        def call(*args, **kwargs):
            target = Path(os.fspath(args[-1])).name if isinstance(args[-1], str | Path) else ""
            if name == "fsync":
                target = Path(os.readlink(f"/proc/self/fd/{args[0]}")).name
            steps.append((name, target))
            return function(*args, **kwargs)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, spy(name, getattr(os, name)))
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda p: (steps.append(("unlink", p.name)), unlink(p)))
    replace(folder, {"w2": "new", "w.index": "new"})
    assert {("fsync", "w2"), ("fsync", "w.index")} <= set(steps[:2])
    moves = [step for step in steps if step[0] != "fsync"]
    assert moves == [("replace", "w2"), ("replace", "w.index"), ("unlink", "w1")]
    between = steps[steps.index(moves[0]) : steps.index(moves[1])]
    assert ("fsync", "f") in between
    after = steps[steps.index(moves[1]) : steps.index(moves[2])]
    assert ("fsync", "f") in after


def test_what_comes_in_meanwhile_stays(tmp_path):
    folder = tmp_path / "f"
    replace(folder, {"w.index": "old"})
    with replace_module.atomic_replace(folder, is_ours=ours, is_main_file=head) as staging:
        (staging.path / "w.index").write_text("new")
        (folder / "notes").write_text("mine")
        (folder / "runs").mkdir()
    assert contents(folder) == {"w.index": "new", "notes": "mine"}
    assert (folder / "runs").is_dir()


def test_side_files_that_are_the_same_stay_and_the_others_come_with_the_head(tmp_path, monkeypatch):
    """Everything is on the disk before; then renames one after the other, nothing in between."""
    folder, steps = tmp_path / "f", []
    replace(folder, {"w1": "old", "w.config": "1", "w.same": "0", "w.index": "old"})
    (folder / "README").write_text("mine")
    inode = (folder / "w.same").stat().st_ino
    real = {name: getattr(os, name) for name in ("replace", "fsync", "open", "link", "rename")}
    for name in real:
        monkeypatch.setattr(
            os, name, lambda *a, _n=name, **k: (steps.append((_n, a)), real[_n](*a, **k))[1]
        )
    replace(folder, {"w2": "new", "w.config": "2", "w.same": "0", "w.index": "new"})
    names = [name for name, _ in steps]
    at = max(i for i, (n, a) in enumerate(steps) if n == "replace" and a[1] == folder / "w.config")
    assert names[at + 1] == "replace"
    assert steps[at + 1][1][1] == folder / "w.index" and names[at - 1] == "fsync"
    assert (folder / "w.same").stat().st_ino == inode


def test_a_failure_in_the_middle_takes_everything_back(tmp_path, monkeypatch):
    folder = tmp_path / "f"
    old = {"w1": "old", "w.config": "1", "w.index": "old", "README": "mine"}
    replace(folder, {name: old[name] for name in old if name != "README"})
    (folder / "README").write_text("mine")
    real = os.replace

    def full(source, target):
        if str(target).endswith("w.index"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(fp.CheckpointError, match="f: while replacing: No space left"):
        replace(folder, {"w2": "new", "w.config": "2", "w.index": "new"})
    assert contents(folder) == old and os.listdir(tmp_path) == ["f"]


def test_folders_beside_the_head_are_replaced_file_by_file(tmp_path, monkeypatch):
    folder = tmp_path / "f"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "1_Pooling/config").write_text("old")
    (folder / "1_Pooling/notes").write_text("mine")
    real = os.replace

    def save():
        with replace_module.atomic_replace(folder, is_ours=ours, is_main_file=head) as staging:
            for name in ("1_Pooling/config", "2_Dense/a/weights", "w.index"):
                (staging.path / name).parent.mkdir(parents=True, exist_ok=True)
                (staging.path / name).write_text("new")

    def full(source, target):
        if str(target).endswith("w.index"):
            raise OSError(28, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(fp.CheckpointError, match="No space left"):
            save()
    assert (folder / "1_Pooling/config").read_text() == "old"
    assert os.listdir(folder) == ["1_Pooling"]
    save()
    for name in ("1_Pooling/config", "2_Dense/a/weights", "w.index"):
        assert (folder / name).read_text() == "new"
    assert (folder / "1_Pooling/notes").read_text() == "mine"
    assert sorted(os.listdir(folder)) == ["1_Pooling", "2_Dense", "w.index"]


def test_a_lock_of_somebody_else_is_waited_for_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.3)
    replace(tmp_path / "f", {"w.index": "old"})
    command = ["flock", "-F", tmp_path, "sh", "-c", "echo locked; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        try:
            with pytest.raises(fp.CheckpointError) as error:
                replace(tmp_path / "f", {"w.index": "new"})
            assert str(tmp_path) in str(error.value) and "0.3 seconds" in str(error.value)
            assert f"process {holder.pid} ('" in str(error.value)
            with pytest.raises(fp.CheckpointError, match="did not let go"):
                replace_module.settled(tmp_path / "f", lambda: None)
        finally:
            holder.kill()
    assert contents(tmp_path / "f") == {"w.index": "old"}
    replace(tmp_path / "f", {"w.index": "new"})  # a dead one's is none
    assert contents(tmp_path / "f") == {"w.index": "new"} and os.listdir(tmp_path) == ["f"]


def test_folders_that_are_made_are_on_the_disk_and_go_if_the_save_fails(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))
    )
    replace(tmp_path / "a/b/c", {"w.index": "new"})
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")} <= set(synced)
    with (
        pytest.raises(RuntimeError),
        replace_module.atomic_replace(tmp_path / "x/y/z", is_ours=ours, is_main_file=head),
    ):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a"]


def test_few_descriptors_are_an_error_of_ours(tmp_path):
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    model.save_pretrained(params, tmp_path / "s")
    used = max(map(int, os.listdir("/proc/self/fd")))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [fd for fd in range(used) if not os.path.exists(f"/proc/self/fd/{fd}")]
    held = [os.open(os.devnull, os.O_RDONLY) for _ in free]
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, limits[1]))
    try:
        with pytest.raises(fp.CheckpointError, match="Too many open files"):
            model.save_pretrained(params, tmp_path / "s", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in held:
            os.close(descriptor)
    assert os.listdir(tmp_path) == ["s"]
    model.save_pretrained(params, tmp_path / "s")


MOUNTS = {  # what is mounted, and where the folder then is
    "mount point": ("mkdir ck; mount --bind ck ck", "."),
    "overlay": (
        "mount -t tmpfs tmpfs .; cd $PWD; mkdir -p l/ck u w m; "
        "mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m",
        "m",
    ),
}


@pytest.mark.parametrize("place", MOUNTS)
@some_of(
    "how", ["mount", "mount+orbax"], "mount"
)  # orbax where no folder is renamed: "no-exchange"
def test_a_folder_that_may_not_be_renamed_is_saved_into(place, how, tmp_path, saver):
    if os.getuid():
        pytest.skip("needs root: mounts")
    script, inside = MOUNTS[place]
    said = saver(tmp_path / inside, how, "raced", "2", mounts=f"cd {tmp_path}; {script}")
    assert said == {"failed": 0, "found": said["found"], "left": []}
    assert said["found"] % 1000 == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_save_that_is_left_changes_nothing(stop, tmp_path):
    folder = tmp_path / "f"
    replace(folder, {"w.index": "old"})
    with (
        pytest.raises(stop),
        replace_module.atomic_replace(folder, is_ours=ours, is_main_file=head) as staging,
    ):
        (staging.path / "w.index").write_text("new")
        raise stop
    assert contents(folder) == {"w.index": "old"} and os.listdir(tmp_path) == ["f"]
    with (
        pytest.raises(stop),
        replace_module.atomic_replace(tmp_path / "g", is_ours=ours, is_main_file=head),
    ):
        raise stop
    assert os.listdir(tmp_path) == ["f"]


def test_what_killed_writers_left_is_swept(tmp_path):
    here, day = locks.kernel(), 25 * 60 * 60
    left = {
        f".f.tmp-{here}-00000001": 0,  # swept: nobody has its lock
        f".f.tmp-{here}-00000002": day,  # stays: somebody has, however old it is
        ".f.tmp-89abcdef-00000003": day,  # swept: of another kernel, a day old
        ".f.tmp-89abcdef-00000004": 0,  # stays: whoever has the lock there is not known here
        ".f.tmp-host-12-0123abcd": day,  # swept: of an earlier version, a day old
        ".f.tmp-mine": day,  # stays: not of this making
        f".g.tmp-{here}-00000005": day,  # stays: another folder's
    }
    for name, age in left.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "w1").write_text("")
        (tmp_path / f"{name}.lock").write_text("")
        for path in (tmp_path / name / "w1", tmp_path / name):
            os.utime(path, (time.time() - age,) * 2)
    (tmp_path / ".f.tmp-host-12-0123abcd.lock").unlink()
    (tmp_path / f".f.tmp-{here}-00000006.lock").write_text("")  # swept
    names = list(left)
    with open(tmp_path / f"{names[1]}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        replace(tmp_path / "f", {"w.index": "new"})
    stay = [names[i] for i in (1, 3, 5, 6)]
    assert set(os.listdir(tmp_path)) == {"f", *stay, *(f"{name}.lock" for name in stay)}


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    replace(tmp_path / "link", {"w.index": "new"})
    assert (tmp_path / "link").is_symlink() and contents(tmp_path / "real") == {"w.index": "new"}


@pytest.mark.parametrize("name", ["a b", "ü-✓", "x" * 200])
def test_odd_names_of_folders(name, tmp_path):
    replace(tmp_path / name, {"w.index": "1"})
    replace(tmp_path / name, {"w.index": "2"})
    assert contents(tmp_path / name) == {"w.index": "2"}


def test_a_file_limit_is_an_error_and_the_old_stays(tmp_path):
    """EFBIG, from the system itself."""
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    model.save_pretrained(params, tmp_path / "s")
    before = (tmp_path / "s/model.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(fp.CheckpointError, match="model.safetensors: File too large; the weig"):
            model.save_pretrained(params, tmp_path / "s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "s/model.safetensors").read_bytes() == before
    assert os.listdir(tmp_path) == ["s"]


TMPFS = """
import subprocess, sys
from _children import mount_apart
import numpy as np
from flaxmodels import params as fp
from flaxmodels.params.atomic.replace import atomic_replace
from flaxmodels.params.save.write import write_checkpoint
from flaxmodels.params.formats import is_main_file, is_weights
options, size, between = sys.argv[1:]

def save(value):
    tree = {"w": np.full(int(size), value, np.uint8)}
    with atomic_replace("/mnt/ck", is_ours=is_weights, is_main_file=is_main_file) as staging:
        write_checkpoint(staging.path, tree, tree, progress=False)

try:
    mount_apart(f"mount -t tmpfs -o {options} tmpfs /mnt")
except PermissionError as error:
    sys.exit(error)
save(1)
subprocess.run(between, shell=True, check=True)
try:
    save(2)
except fp.CheckpointError as error:
    print(error)
print(fp.open_checkpoint("/mnt/ck")["w"].read().max())
"""


def on_a_small_disk(options: str, size: int, between: str = "true") -> str:
    """What is said of a second save, and the value that is there then."""
    run = _children.run("-c", TMPFS, options, str(size), between)
    if "no mounts of its own" in run.stderr:
        pytest.skip(run.stderr)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(("options", "size"), [("size=1m", 700_000), ("nr_inodes=5", 1000)])
def test_a_full_disk_leaves_the_old(options, size):
    said = on_a_small_disk(options, size)
    assert said.startswith("/mnt/") and said.endswith("\n1\n"), said
    assert "the disk has 3" in said or "No space left on device" in said, said


def test_a_read_only_disk_leaves_the_old():
    said = on_a_small_disk("size=9m", 1000, "mount -o remount,ro /mnt")
    assert "/mnt/ck: not saved: Read-only file system" in said and said.endswith("\n1\n"), said


def test_one_may_save_over_what_was_loaded(tmp_path):
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    for _ in range(3):
        model.save_pretrained(params, tmp_path / "s", max_shard_size="10KB")
        model, params = fm.LlamaForCausalLM.from_pretrained(tmp_path / "s")
    expected = fm.LlamaForCausalLM.from_pretrained(LLAMA)[1]
    assert jax.tree.all(jax.tree.map(np.array_equal, params, expected))


def test_threads_save_at_once(tmp_path):
    threads = [
        threading.Thread(target=replace, args=(tmp_path / "f", {"w.index": str(i), "w1": str(i)}))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(contents(tmp_path / "f").values())) == 1
    assert os.listdir(tmp_path) == ["f"]
