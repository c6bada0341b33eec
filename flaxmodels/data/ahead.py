"""Items that a thread makes before they are asked for."""

import queue
import threading
import weakref
from collections.abc import Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Runs a generator in a thread, up to `count` items ahead of who asks for them. What it raises
    is raised where its item would have come. The thread ends with the generator, or when this is
    closed, or nobody has it any more."""

    def __init__(self, items: Generator[T, None, None], count: int):
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(count)
        stop = threading.Event()
        # the thread knows the queue and not this object, which could not be collected otherwise
        told = (items, self._queue, stop)
        thread = threading.Thread(target=_run, args=told, name="flaxmodels-data", daemon=True)
        self._end = weakref.finalize(self, _end, self._queue, stop, thread)
        thread.start()

    def __iter__(self) -> "Ahead[T]":
        return self

    def __next__(self) -> T:
        if not self._end.alive:
            raise StopIteration
        kind, value = self._queue.get()
        if kind == "item":
            return value
        self.close()
        if kind == "error":
            raise value
        raise StopIteration

    def close(self) -> None:
        """Ends the thread, and waits for the item that it is making."""
        self._end()


def _run(
    items: Generator[Any, None, None], into: "queue.Queue[tuple[str, Any]]", stop: threading.Event
) -> None:
    try:
        for item in items:
            if stop.is_set():
                break
            into.put(("item", item))
        items.close()
        into.put(("end", None))
    except BaseException as error:
        into.put(("error", error))


def _end(
    into: "queue.Queue[tuple[str, Any]]", stop: threading.Event, thread: threading.Thread
) -> None:
    stop.set()
    while thread.is_alive():  # it may be waiting for room, more than once
        while not into.empty():
            into.get_nowait()
        thread.join(0.01)
