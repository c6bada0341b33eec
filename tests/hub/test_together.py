"""Loads at the same time, and loads that are broken off: nothing is mixed, nothing goes on."""

import os
import signal
import threading
import time
from pathlib import Path

import _children
import pytest
from _downloads import (
    CONFIG,
    FIRST,
    INDEX,
    NAME,
    SECOND,
    assert_clean,
    files_of,
    is_whole,
    load,
    no_pauses,
)
from _paths import SHARDED
from loopback import Fault
from loopback.client import hub_environment
from loopback.web import proxying

import flaxmodels as fm
from flaxmodels.hub import session

CHILD = """
import sys
import flaxmodels as fm
from flaxmodels import params as fp
name, expected = sys.argv[1:]
params = fm.LlamaForCausalLM.from_pretrained(name, progress=False)[1]
expected = fm.LlamaForCausalLM.from_pretrained(expected, progress=False)[1]
print("whole" if fp.diff(params, expected).equal else "other")
"""


@pytest.fixture(autouse=True)
def commit(hub, monkeypatch):
    no_pauses(monkeypatch)
    return hub.commit(NAME, files_of(SHARDED))


def child(hub, tmp_path, *without):
    environment = hub_environment(hub, tmp_path)
    for name in without:
        environment.pop(name, None)
    return _children.Child("-c", CHILD, NAME, SHARDED, env=environment, cwd=tmp_path)


def test_two_processes_on_one_cache_and_one_that_is_killed(hub, tmp_path):
    """One more is killed while its files come; HOME is not set in one of the two."""
    began = threading.Event()
    hub.rate = 20_000  # 2 s for what there is
    hub.fault(Fault("hook", port="cdn", call=lambda _: began.set(), skip=2, times=None))
    victim = child(hub, tmp_path)
    assert began.wait(60)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    hub.rate = 200_000
    both = [child(hub, tmp_path), child(hub, tmp_path, "HOME")]
    for process in both:
        out, errors = process.communicate(timeout=120)
        assert out.strip() == "whole", errors
    hub.rate = None
    assert is_whole(load()[1])


def test_parts_that_a_killed_process_left(hub):
    """Old ones go when their file comes; a young one may be another process's."""
    cached = Path(fm.download(NAME, progress=False))
    blob = Path(os.path.realpath(cached / SECOND))
    old, young = (blob.with_name(f"{blob.name}.{name}.incomplete") for name in ("old", "young"))
    for part in (old, young):
        part.write_bytes(b"x")
    os.utime(old, (0, 0))
    blob.unlink()
    assert is_whole(load()[1])
    assert not old.exists() and young.exists()


@pytest.mark.parametrize("proxied", [False, True])
def test_two_loads_in_two_threads(proxied, hub, monkeypatch, tmp_path):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    hub.rate = 300_000
    found, errors = [], []
    with proxying() as (proxy, asked):
        options = {"proxies": {"http": proxy}} if proxied else {}

        def run(delay):
            try:
                time.sleep(delay)
                found.append(is_whole(load(**options)[1]))
            except Exception as error:
                errors.append(error)

        loads = [threading.Thread(target=run, args=(delay,)) for delay in (0, 0.1)]
        for thread in loads:
            thread.start()
        for thread in loads:
            thread.join()
        assert errors == [] and found == [True, True]
        if proxied:
            assert len(asked) >= len(hub.requests) > 0
    assert_clean(tmp_path / "hf")
    assert not session._guards and not session._proxies


# Ctrl-C

MOMENTS = {
    "listing": {"path": "/api/models/*"},
    "config": {"method": "GET", "path": f"*/{CONFIG}"},
    "index": {"method": "HEAD", "path": f"*/{INDEX}"},
    "heads": {"method": "GET", "path": f"*/resolve/*/{SECOND}"},
    "first-shard": {"method": "HEAD", "path": f"*/{FIRST}"},
    "body": {"method": "GET", "port": "cdn", "skip": 5},
    "last-body": {"method": "GET", "port": "cdn", "skip": 8},
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_ctrl_c(moment, hub, tmp_path):
    """All downloads end soon, though each would take minutes; nothing is left, nor goes on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pressed: list[float] = []  # the time: what came before it, imports too, is not counted

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def interrupt(_):
        hub.rate = 100  # bytes a second
        threading.Timer(0.1, press).start()

    hub.fault(Fault("hook", call=interrupt, **moment))
    try:
        with pytest.raises(KeyboardInterrupt):
            load()
    finally:
        signal.signal(signal.SIGINT, before)
    took = time.monotonic() - pressed[0]
    assert_clean(tmp_path / "hf", seconds=0)
    assert took < 6
    hub.rate = None
    assert is_whole(load()[1])
