"""Ending, from another thread, what waits for the Hub: reads, pauses, and what would come next."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

_current = threading.local()


class Stop:
    """A sign to stop; threads heed it within `heeded`."""

    def __init__(self) -> None:
        self._given = threading.Event()
        self._lock = threading.Lock()
        self._reads: dict[int, socket.socket] = {}  # of each thread, the connection it reads from

    def give(self) -> None:
        """Ends the connections that are read from, and all of Xet's, which are this process's."""
        with self._lock:
            self._given.set()
            for connection in self._reads.values():
                # Of TLS as well the plain connection: a read of it must end, and no other thread
                # may touch its state.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        _end_xet()

    def check(self) -> None:
        """Raises CancelledError once the sign was given."""
        if self._given.is_set():
            raise CancelledError

    def wait(self, seconds: float) -> None:
        self._given.wait(seconds)

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """What this thread asks the Hub for meanwhile ends when the sign is given."""
        _current.stop = self
        try:
            yield
        finally:
            _current.stop = None
            with self._lock:
                self._reads.pop(threading.get_ident(), None)

    def reads(self, response: Any) -> None:
        """Notes what this thread is about to read."""
        stream = response.extensions.get("network_stream")
        connection = stream and stream.get_extra_info("socket")
        with self._lock:
            self.check()
            if connection is not None:
                self._reads[threading.get_ident()] = connection


def current() -> Stop | None:
    """What this thread heeds."""
    return getattr(_current, "stop", None)


def _end_xet() -> None:
    """Its downloads heed nothing else; of clients that have them, and only if one was begun."""
    xet = sys.modules.get("huggingface_hub.utils._xet")
    end = getattr(xet, "abort_xet_session", None)
    if end is not None:
        end()
