"""Cancellation, by another thread, of what waits for the Hub: reads, pauses, and later requests."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx2 import Response  # or httpx's, by the client's version

_current = threading.local()


class Cancellation:
    """Cancels the requests that threads make within `scope`."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._reading: dict[int, socket.socket] = {}  # each thread's connection

    def cancel(self) -> None:
        """Ends the connections that are read from, and all of Xet's, which are this process's."""
        with self._lock:
            self._cancelled.set()
            for connection in self._reading.values():
                # Of TLS as well the plain connection: a read of it must end, and no other thread
                # may touch its state.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        _abort_xet()

    def check(self) -> None:
        """Raises CancelledError once `cancel` was called."""
        if self._cancelled.is_set():
            raise CancelledError

    def wait(self, seconds: float) -> None:
        """Sleeps until `cancel` is called."""
        self._cancelled.wait(seconds)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Lets `cancel` end the requests that this thread makes inside."""
        _current.cancellation = self
        try:
            yield
        finally:
            _current.cancellation = None
            with self._lock:
                self._reading.pop(threading.get_ident(), None)

    def watch(self, response: "Response") -> None:
        """Notes the connection of a response that this thread is about to read."""
        stream = response.extensions.get("network_stream")
        connection = stream and stream.get_extra_info("socket")
        with self._lock:
            self.check()
            if connection is not None:
                self._reading[threading.get_ident()] = connection


def current() -> Cancellation | None:
    """Returns the cancellation in whose scope this thread is."""
    return getattr(_current, "cancellation", None)


def _abort_xet() -> None:
    """Ends Xet's downloads, which know no other way; only of clients that have it, once begun."""
    xet = sys.modules.get("huggingface_hub.utils._xet")
    abort = getattr(xet, "abort_xet_session", None)
    if abort is not None:
        abort()
