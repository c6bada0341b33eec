"""Joins a run of several processes, so that the death of one is noticed by the others."""

import atexit
import contextlib
import ctypes
import signal
import sys
import time
from typing import Any

import jax
from jax._src import distributed  # the only way to the coordinator

_HEARTBEATS = 8  # seconds without any, after which a process is dead
_LEAVING = 300  # seconds to wait for the others at the end of a process; JAX's default


def initialize(**kwargs: Any) -> None:
    """Joins this process to a multi-host run; call it before anything touches a device.

    On TPU pods and under SLURM or Open MPI the arguments are found by JAX; elsewhere pass
    `coordinator_address`, `num_processes` and `process_id` (`jax.distributed.initialize`).
    A second call in the same process does nothing.

    When a process dies, the loads and saves that the others do together raise an error that names
    it, after `heartbeat_timeout_seconds`, 8 by default. JAX alone would end them all, after 100.
    """
    if jax.distributed.is_initialized():
        return
    recovers = getattr(jax.config, "jax_enable_recoverability", None)
    if recovers is False:
        # Else the coordinator tells all processes to abort when it misses one.
        jax.config.update("jax_enable_recoverability", True)
    try:
        kwargs.setdefault("heartbeat_timeout_seconds", _HEARTBEATS)
        jax.distributed.initialize(**kwargs)
    finally:
        if recovers is False:
            jax.config.update("jax_enable_recoverability", False)
    _delay_abort()
    atexit.register(_leave, kwargs.get("shutdown_timeout_seconds", _LEAVING))


def _leave(seconds: int) -> None:
    """Waits for the others at the end of this process; the coordinator ends last. JAX does so
    itself, but not with recoverability. The key tells those that wait for this one that it left."""
    client, state = distributed.global_state.client, distributed.global_state
    if client is None or hasattr(sys, "last_type"):  # an error that nobody caught
        return
    everybody = list(range(state.num_processes))
    with contextlib.suppress(Exception):  # the others may be dead
        client.key_value_set(f"flaxmodels/left/{state.process_id}", "")
        client.wait_at_barrier("flaxmodels/leaving", seconds * 1000)
        until = time.monotonic() + _HEARTBEATS
        while state.process_id == 0 and time.monotonic() < until:
            if len(client.get_live_nodes(everybody)) == 1:
                break
            time.sleep(0.05)


def _delay_abort() -> None:
    """Gives this process six seconds to report what happened before it aborts.

    A thread of the runtime calls abort() at once when the coordinator, process 0, is gone. The
    handler of its signal is C's own sleep(), to which the number of the signal, 6, is seconds:
    nothing else is safe to run there.
    """
    library = ctypes.CDLL(None)
    library.signal.argtypes, library.signal.restype = (
        (ctypes.c_int, ctypes.c_void_p),
        ctypes.c_void_p,
    )
    before = library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
    if before:  # such as faulthandler's
        library.signal(signal.SIGABRT, before)
