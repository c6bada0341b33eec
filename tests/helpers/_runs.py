"""Runs of several processes on this machine, which join at a loopback port."""

import json
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

import _children

HEAD = """
import json, os, sys, time
number, count, port, devices = map(int, sys.argv[1:5])
given = sys.argv[5:]
os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
import jax
import jax.numpy as jnp
import numpy as np
import flaxmodels as fm
from flaxmodels import params as fp, sharding as fs

def join(**limits):
    fs.initialize(f"localhost:{port}", count, number, **limits)

def said_of(action):
    start = time.monotonic()
    try:
        return {"result": action()}
    except Exception as error:
        seconds = time.monotonic() - start
        return {"error": f"{type(error).__name__}: {error}", "seconds": seconds}

def say(name, value):
    print(json.dumps({name: value}), flush=True)
"""
"""What every program begins with."""


class Run:
    """A program in `count` processes, or `only` some of them, with `devices` in all."""

    def __init__(
        self,
        program: str,
        *arguments: Any,
        count: int,
        devices: int = 4,
        only: Iterable[int] | None = None,
        env: Callable[[int], dict[str, str]] = lambda _: dict(os.environ),
    ):
        port = free_port()
        self.processes = [
            _children.Child(
                *("-c", HEAD + program, str(number), str(count), str(port)),
                *(str(devices // count), *map(str, arguments)),
                env=env(number),
            )
            for number in (range(count) if only is None else only)
        ]

    def said(self, timeout: float = 240) -> list[dict[str, Any]]:
        """Waits for all -> what each said by `say`; they end without an error of Python's own."""
        ended = self.ended(timeout)
        assert all(p.returncode == 0 for p in self.processes), [err[-2000:] for _, err in ended]
        return [values(out) for out, _ in ended]

    def ended(self, timeout: float = 240) -> list[tuple[str, str]]:
        """Waits for all -> what each wrote to stdout and stderr."""
        try:
            return [process.communicate(timeout) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()


def values(out: str) -> dict[str, Any]:
    """What a process said by `say`."""
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {name: value for line in lines for name, value in line.items()}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
