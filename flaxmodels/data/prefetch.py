"""Items that a thread makes before they are asked for."""

import queue
import threading
import weakref
from collections.abc import Generator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class _Made(NamedTuple, Generic[T]):
    """What the thread says: an item, or what it raised; neither at the end."""

    items: tuple[T, ...] = ()
    error: BaseException | None = None


class Ahead(Generic[T]):
    """Runs a generator in a thread, up to `count` items ahead of who asks for them. What it raises
    is raised where its item would have come. The thread ends with the generator, or when this is
    closed, or nobody has it any more."""

    def __init__(self, items: Generator[T, None, None], count: int):
        self._queue: queue.Queue[_Made[T]] = queue.Queue(count)
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
        made = self._queue.get()
        if made.items:
            return made.items[0]
        self.close()
        raise StopIteration if made.error is None else made.error

    def close(self) -> None:
        """Ends the thread, and waits for the item that it is making."""
        self._end()


def _run(
    items: Generator[T, None, None], into: "queue.Queue[_Made[T]]", stop: threading.Event
) -> None:
    try:
        for item in items:
            if stop.is_set():
                break
            into.put(_Made((item,)))
        items.close()
        into.put(_Made())
    except BaseException as error:
        into.put(_Made(error=error))


def _end(into: "queue.Queue[_Made[T]]", stop: threading.Event, thread: threading.Thread) -> None:
    stop.set()
    while thread.is_alive():  # it may be waiting for room, more than once
        while not into.empty():
            into.get_nowait()
        thread.join(0.01)
