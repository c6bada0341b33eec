"""`scripts/bench_device.py`: each part does its work with tiny models; figures mean nothing."""

import argparse
import math
import subprocess
import time
import types

import _children
import bench_device
import pytest

CEILINGS = {"memory GB/s": 1.0, "bus GB/s": 1.0, "matmul TFLOP/s": 1.0}
QUICK = ("ceilings", "load 1B stacked", "prefill 1B sdpa")
NAMES = [name for name in bench_device.parts() if not name.startswith(("torch", "write"))]
CASES = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.soak)
    for name in NAMES
    if not name.endswith("flash")
]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    return argparse.Namespace(folder=folder, small=True, ceilings=CEILINGS)


@pytest.mark.parametrize("name", CASES)
def test_a_part_has_its_figures(name, args):
    if "gpt2" not in name and name != "ceilings":
        bench_device.part(f"write {name.split()[1]}", args)
    figures = bench_device.part(name, args)
    numbers = [value for value in figures.values() if not isinstance(value, str)]
    assert numbers and all(map(math.isfinite, numbers))


def test_a_part_that_fails_is_a_row(args, monkeypatch):
    def forked(command, env, timeout, **_):
        return _children.run(*command[1:], env=env, timeout=timeout)

    processes = types.SimpleNamespace(run=forked, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(bench_device, "subprocess", processes)
    row = bench_device.in_a_process("prefill 9B sdpa", args, CEILINGS, time.monotonic() + 60)
    assert list(row) == ["failed"] and "device-9B-small" in row["failed"]
