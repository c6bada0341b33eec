"""Joins a run of several processes, so that the death of one is noticed by the others."""

import atexit
import contextlib
import ctypes
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src import api, distributed, xla_bridge  # the only way to the coordinator

_HEARTBEATS = 8  # seconds without any, after which a process is dead
_LEAVING = 300  # seconds to wait for the others at the end of a process; JAX's default
_JOINING = 300  # seconds in which all must have come; JAX's default
_NUMBER = int | float | np.integer | np.floating
_FOR_EVER = 10 * 365 * 86400  # seconds


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    initialization_timeout: float = _JOINING,
    heartbeat_timeout_seconds: int = _HEARTBEATS,
    agreement_timeout_seconds: float = 300,
    work_timeout_seconds: float = 3600,
    **more: Any,
) -> None:
    """Joins this process to a run of several; call it before anything touches a device.

    On TPU pods and under SLURM or Open MPI the arguments are found by JAX, and under
    `scripts/launch` in the environment (`JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES`,
    `JAX_PROCESS_ID`); elsewhere give the first three. A second call in a process does nothing.

    When a process dies, the loads and saves that the others do together raise an error that names
    it, after `heartbeat_timeout_seconds` and two more; one that cannot be interrupted, because it
    waits in a collective of an accelerator, ends 20 s later. JAX alone would end them all, after
    100 s.

    Args:
        coordinator_address: "host:port" of process 0, which listens there.
        num_processes: how many there are.
        process_id: the number of this one, from 0.
        initialization_timeout: seconds in which all must have joined.
        agreement_timeout_seconds: seconds that those who begin a load or a save wait for one that
            does not come to it.
        work_timeout_seconds: seconds that those who have read or written their part wait for one
            that has not. Process 0's values of both count for all.
        **more: `local_device_ids`, `cluster_detection_method`, `coordinator_bind_address`,
            `shutdown_timeout_seconds`, `partition_index` of `jax.distributed.initialize`.

    Raises:
        TypeError, ValueError: arguments of a wrong kind, that contradict each other, or that are
            missing where JAX finds none.
        RuntimeError: a device has been touched already.
        TimeoutError: the coordinator cannot be reached, or not all came in time.
    """
    if jax.distributed.is_initialized():
        return
    joined = _described(coordinator_address, num_processes, process_id)
    limits = {"agreement": agreement_timeout_seconds, "work": work_timeout_seconds}
    _check_seconds(
        initialization_timeout=initialization_timeout,
        heartbeat_timeout_seconds=heartbeat_timeout_seconds,
        **{f"{name}_timeout_seconds": seconds for name, seconds in limits.items()},
    )
    _join(
        initialization_timeout,
        heartbeat_timeout_seconds=heartbeat_timeout_seconds,
        **joined,
        **more,
    )
    _tell(limits)
    _delay_abort()
    atexit.register(_close)  # after _leave
    atexit.register(_leave, more.get("shutdown_timeout_seconds", _LEAVING))


def _described(address: str | None, number: int | None, process: int | None) -> dict[str, Any]:
    """Returns which run, and which process of it, by arguments or the environment; checked."""
    number = _from_environment("JAX_NUM_PROCESSES", number)
    process = _from_environment("JAX_PROCESS_ID", process)
    _check(address, number, process)
    return {"coordinator_address": address, "num_processes": number, "process_id": process}


def _from_environment(name: str, given: int | None) -> int | None:
    """Returns what was given, else what a variable says."""
    said = os.environ.get(name)
    if given is not None or said is None:
        return int(given) if isinstance(given, np.integer) else given
    if not said.isdecimal():
        raise ValueError(f"{name} is {said!r} in the environment; expected a number")
    return int(said)


def _tell(limits: dict[str, float]) -> None:
    """Leaves limits of time where `params/peers.py` finds them."""
    state: Any = distributed.global_state
    for name, seconds in limits.items():
        state.client.key_value_set(f"flaxmodels/{name} seconds/{state.process_id}", str(seconds))


def _check(address: object, number: object, process: object) -> None:
    """Refuses arguments that JAX would accept, or refuse later, or by ending the process."""
    if address is not None:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
            raise ValueError(
                f"coordinator_address is {address!r}; expected the host of process 0 and a free "
                'port of it, such as "10.0.0.1:8476"'
            )
    for name, value in (("num_processes", number), ("process_id", process)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise TypeError(f"{name} is {value!r}; expected an int")
    if isinstance(number, int) and number < 1:
        raise ValueError(f"num_processes is {number}; a run has at least one process")
    if isinstance(process, int) and (
        process < 0 or (isinstance(number, int) and process >= number)
    ):
        most = f"0 to {number - 1}" if isinstance(number, int) else "0 and up"
        raise ValueError(
            f"process_id is {process}, and the processes have the numbers {most} "
            f"(num_processes={number})"
        )


def _check_seconds(**seconds: object) -> None:
    for name, value in seconds.items():
        if not isinstance(value, _NUMBER) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"{name} is {value!r}; expected a positive number of seconds")


def _join(seconds: float, **arguments: Any) -> None:
    """Calls JAX in a thread: where not all come in time, it would abort the process."""
    if xla_bridge.backends_are_initialized():
        raise RuntimeError(
            "initialize must come before anything that touches a device, and something did: an "
            "array was made, or jax.devices(), make_mesh or the like was called; call it right "
            "after the imports"
        )
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def join() -> None:
        try:
            with _recoverable():
                jax.distributed.initialize(**arguments, initialization_timeout=_FOR_EVER)
            ended.put(None)
        except BaseException as error:
            ended.put(error)

    threading.Thread(target=join, name="flaxmodels-join", daemon=True).start()
    try:
        error = ended.get(timeout=seconds)
    except queue.Empty:
        _abandon()
        raise TimeoutError(_late(seconds)) from None
    if isinstance(error, ValueError) and "defined" in str(error):
        raise ValueError(
            f"{error} JAX found no TPU pod, SLURM or Open MPI to take it from: give "
            "coordinator_address, num_processes and process_id, or start the program by "
            "scripts/launch"
        ) from error
    if error is not None:
        raise error


@contextlib.contextmanager
def _recoverable() -> Iterator[None]:
    """Keeps the coordinator from telling all processes to abort when it misses one."""
    turned = getattr(jax.config, "jax_enable_recoverability", None) is False
    if turned:
        jax.config.update("jax_enable_recoverability", True)
    try:
        yield
    finally:
        if turned:
            jax.config.update("jax_enable_recoverability", False)


def _late(seconds: float) -> str:
    """Returns why processes did not join in time, as far as this one can tell."""
    state = distributed.global_state
    address = state.coordinator_address
    if address is None:
        return f"no coordinator was found within {seconds:g} s; give coordinator_address"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError as error:
        return (
            f"process {state.process_id} cannot reach the coordinator at {address} within "
            f"{seconds:g} s ({error}): process 0 listens there once it has called initialize; "
            "check that it runs, the address, and firewalls"
        )
    return (
        f"not all of {state.num_processes} processes joined the coordinator at {address} within "
        f"{seconds:g} s: one was not started, failed before it called initialize, or was given "
        "another coordinator_address, num_processes or process_id"
    )


def _abandon() -> None:
    """Lets this process go on as one that never joined; the runtime's objects are never closed,
    for a thread is still inside of them."""
    state = distributed.global_state
    for name in ("client", "service"):
        if (held := getattr(state, name)) is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))
            setattr(state, name, None)


def _leave(seconds: int) -> None:
    """Waits for the others at the end of this process; the coordinator ends last. JAX does so
    itself, but not with recoverability. The key tells those that wait for this one that it left."""
    client, state = distributed.global_state.client, distributed.global_state
    if client is None:
        return
    everybody = list(range(state.num_processes))
    with contextlib.suppress(Exception):  # the others may be dead
        if hasattr(sys, "last_type"):  # an error that nobody caught: often of all of them
            client.key_value_set(f"flaxmodels/failed/{state.process_id}", "")
            if state.process_id == 0:
                _await_failures(client, everybody)
            return
        client.key_value_set(f"flaxmodels/left/{state.process_id}", "")
        client.wait_at_barrier("flaxmodels/leaving", seconds * 1000)
        until = time.monotonic() + _HEARTBEATS
        while state.process_id == 0 and time.monotonic() < until:
            if len(client.get_live_nodes(everybody)) == 1:
                break
            time.sleep(0.05)


def _await_failures(client: Any, everybody: list[int]) -> None:
    """Gives the others two seconds to end by the same error: without the coordinator they abort."""
    until = time.monotonic() + 2
    for number in everybody:
        left = max(1, int(1000 * (until - time.monotonic())))
        client.blocking_key_value_get(f"flaxmodels/failed/{number}", left)
    time.sleep(0.5)  # they close their connections


def _close() -> None:
    """Lets JAX close its connection now, and waits for the threads that hear of it: one that comes
    back to Python when that has ended would abort the process."""
    state = distributed.global_state
    if state.client is None:
        return
    if state.process_id and not _is_there(state.coordinator_address):
        _abandon()  # JAX would abort the process, for it cannot say goodbye
        return
    atexit.unregister(api.clean_up)
    api.clean_up()
    for thread in threading.enumerate():
        if thread.name in ("flaxmodels-ask", "flaxmodels-peers"):  # of `params/process_deaths.py`
            thread.join(1)


def _is_there(address: str | None) -> bool:
    host, _, port = (address or "").rpartition(":")
    with contextlib.suppress(OSError, ValueError):
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
        return True
    return False


def _delay_abort() -> None:
    """Gives this process six seconds to report what happened before it aborts.

    A thread of the runtime calls abort() at once when the coordinator, process 0, is gone. The
    handler of its signal is C's own sleep(), to which the number of the signal, 6, is seconds:
    nothing else is safe to run there.
    """
    library = ctypes.CDLL(None)
    library.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    library.signal.restype = ctypes.c_void_p
    before = library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
    if before:  # such as faulthandler's
        library.signal(signal.SIGABRT, before)
