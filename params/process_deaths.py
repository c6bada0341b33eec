"""Deaths: which of a run's processes died, and what ends here because of it.

A thread asks the coordinator (process 0 has it) who is alive; the answer comes once all that are
alive have asked, so a process that is only slow is waited for. One is dead when its heartbeats have
stopped, which the runtime sends even while Python is busy, or when its end closed the connection.
"""

import atexit
import contextlib
import ctypes
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import jax
from jax._src import distributed  # the only way to the coordinator

from .errors import CheckpointError

POLL = 1.0  # seconds of one wait for a peer
_PACE = 1.0  # seconds between two questions
_VERDICT = 12.0  # seconds; after this long it is known who died, with `sharding.initialize`
_HANGS = 1.0  # seconds; the coordinator answers in milliseconds
_LOOK = 0.1  # seconds between two looks for news of a death; without process 0 there are six
_GRACE = 20.0  # seconds in which a thread that a death interrupts must get to its end

T = TypeVar("T")


class PeerLost(CheckpointError):
    """Another process of the run died, left, did not come in time, or is in another call."""

    def __init__(self, message: object = ""):
        super().__init__(message or WATCH.said())


class Watch:
    """Who died, and which threads are to hear of it."""

    def __init__(self) -> None:
        self.lost: list[int] = []
        self.seen = threading.Event()
        self._waiting: list[int] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="flaxmodels-peers", daemon=True
                )
                self._thread.start()

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raises `PeerLost` in this thread as soon as somebody dies."""
        self.check()
        with self._lock:
            self._waiting.append(threading.get_ident())
        try:
            yield
        except KeyError as error:  # of threading, where it came as Thread.start was all but done
            if isinstance(error.__context__, PeerLost):
                raise error.__context__ from None
            raise
        finally:
            with self._lock:
                self._waiting.remove(threading.get_ident())

    def check(self, seconds: float = 0) -> None:
        """Waits so many seconds for news of a death.

        Raises:
            PeerLost: somebody died.
        """
        if self.seen.wait(seconds):
            raise PeerLost

    def said(self) -> str:
        names = " and ".join(map(str, self.lost))
        return f"process {names} of this run died; this one, {jax.process_index()}, stops here"

    def _run(self) -> None:
        everybody = list(range(jax.process_count()))
        while True:
            if jax.process_index() == 0:  # the others' questions wait for this one's
                time.sleep(_PACE)
            try:
                alive = asked(lambda: client().get_live_nodes(everybody))
            except PeerLost:  # the coordinator itself
                return
            except Exception as error:
                if "CANCELLED" in str(error):  # this process leaves
                    return
                alive = everybody[1:]
            if lost := [number for number in everybody if number not in alive]:
                self.tell(lost)
                return

    def tell(self, lost: list[int]) -> None:
        atexit.register(_leave)  # before JAX's own, which would wait for the dead
        with self._lock:
            if self.lost:
                return
            self.lost = lost
            self.seen.set()
            for thread in self._waiting:
                raise_in(thread)
            stuck = threading.Timer(_GRACE, self._end, [list(self._waiting)])
        stuck.daemon = True
        stuck.start()

    def _end(self, interrupted: list[int]) -> None:
        """Ends this process if a thread that was interrupted is still where it was: in a collective
        of an accelerator, which waits for the dead for ever, no exception reaches it."""
        with self._lock:
            is_stuck = any(thread in self._waiting for thread in interrupted)
        if is_stuck:
            os.write(2, f"flaxmodels: PeerLost: {self.said()}\n".encode())
            os._exit(1)


WATCH = Watch()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Ends what every process of the run does inside the context with `PeerLost` if one dies."""
    if not have_coordinator():
        yield
        return
    WATCH.start()
    with WATCH.interrupting():
        yield


def explained(error: Exception) -> CheckpointError:
    """Makes the error that says why processes could not do something together."""
    try:
        if have_coordinator():
            if not _is_listening(distributed.global_state.coordinator_address):
                WATCH.tell([0])
            WATCH.check(_VERDICT)
    except PeerLost as lost:
        return lost
    return CheckpointError(f"the processes of this run could not exchange data: {error}")


def have_coordinator() -> bool:
    """Tells whether this run has a coordinator, through which processes tell each other."""
    return distributed.global_state.client is not None


def raise_in(thread: int) -> None:
    """Raises `PeerLost` in another thread, once it is back in Python.

    Not while any thread is being started: until it runs, Python 3.11 has it under the number of the
    one that starts it. The exception would end the new thread before its first line, and the other
    would wait for that line for ever.
    """
    inside: Any = threading
    until = time.monotonic() + _HANGS
    while True:
        with inside._active_limbo_lock:  # which every thread takes before it starts one
            if not inside._limbo or time.monotonic() > until:
                number = ctypes.c_ulong(thread)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(PeerLost))
                return
        time.sleep(0.001)


def asked(call: Callable[[], T]) -> T:
    """Makes a call of the coordinator's client in a thread: it may hang once the coordinator is
    gone."""
    answers: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((call(), None))
        except Exception as raised:
            answers.put((None, raised))

    threading.Thread(target=ask, name="flaxmodels-ask", daemon=True).start()
    until = time.monotonic() + POLL + _HANGS
    while True:
        try:
            result, error = answers.get(timeout=_LOOK)
            break
        except queue.Empty:
            WATCH.check()  # no exception of another thread comes before the queue's wait is over
            if time.monotonic() < until:
                continue
            until = time.monotonic() + _HANGS
            if not _is_listening(distributed.global_state.coordinator_address):
                WATCH.tell([0])
            WATCH.check()
    if error is not None:
        raise error
    return cast(T, result)


def _is_listening(address: str | None) -> bool:
    """Tells whether the coordinator's process is there, however slow it is."""
    host, _, port = (address or "").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except (OSError, ValueError):
        return False
    return True


def client() -> Any:
    """Returns JAX's client of the coordinator, in a run that `have_coordinator`."""
    client = distributed.global_state.client
    assert client is not None
    return client


def _leave() -> None:
    """Keeps this process from waiting for the dead at its end: the runtime's objects are never
    closed."""
    state = distributed.global_state
    for name in ("preemption_sync_manager", "client", "service"):
        if (held := getattr(state, name, None)) is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))
            setattr(state, name, None)
