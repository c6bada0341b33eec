"""Files on their way from the Hub: what a load needs of them first is asked for by itself, the rest
is read as soon as the file is here, while the next ones come."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from ..params.formats import File, LocalFile, Reads, check_size
from .cancellation import Stop
from .client import HubError
from .progress import Bar
from .repository import Repository

T = TypeVar("T")
_AT_ONCE = 4  # files; a server gives each connection its share, so the first is here late if many
_HEAD = 64 << 10  # bytes of a file that are asked for first


class RepositoryStore:
    """The store of a repository: its files by the paths that the cache has, or will have, for them.

    Args:
        progress: show a bar in bytes if it takes longer than a second.
    """

    def __init__(self, repository: Repository, *, progress: bool = True):
        self.repository = repository
        self._progress = progress
        self._lock = threading.RLock()
        self._run = _Run(progress)
        self._coming: dict[str, Future[str]] = {}
        self._opened: dict[str, File] = {}

    def is_folder(self, path: str) -> bool:
        return not self.file(path) or bool(self._inside(path))

    def exists(self, path: str) -> bool:
        return self.file(path) in self.repository.entries or self.is_folder(path)

    def names(self, folder: str) -> list[str]:
        start = self._prefix(folder)
        return sorted({name[len(start) :].partition("/")[0] for name in self._inside(folder)})

    def expect(self, paths: Sequence[str], reads: Reads) -> None:
        files = [name for path in paths for name in self._inside(path) or [self.file(path)]]
        if reads is Reads.START:
            absent = [name for name in files if name not in self._opened and not self._has(name)]
            self._opened.update(zip(absent, self._begun(absent), strict=True))
            return
        for name in files:
            self.start(name)
        if reads is Reads.PATH:
            for name in files:
                self.here(name)

    def _begun(self, names: list[str]) -> list["RepositoryFile"]:
        """These files, the first bytes of each read."""
        run = _Run(shown=False)
        try:
            futures = [run.submit(RepositoryFile, self, name) for name in names]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:  # Ctrl-C too
            run.stop()
            raise

    def open(self, path: str, most: int | None = None) -> File:
        name = self.file(path)
        if name in self._opened:
            return self._opened[name]
        if name not in self.repository.entries:
            raise HubError(f"{self.repository}: the repository has no file {name}")
        check_size(f"{self.repository}, {name}", self.repository.entries[name].size, most)
        return LocalFile(self.here(name))

    def bring(self, paths: Sequence[str]) -> None:
        """Has these files on the disk."""
        self.expect(paths, Reads.PATH)

    def start(self, name: str) -> None:
        """Begins to fetch a file, unless it is here or on its way."""
        with self._lock, self._stopped_is_an_error(name, self._run):
            if name not in self._coming and not self._has(name):
                self._run.bar.expect(self.repository.entries[name].size)
                self._coming[name] = self._run.submit(self._fetch, name, self._run)

    def here(self, name: str) -> str:
        """The path of a file, once it is here. Where it cannot be had, all downloads end.

        Raises:
            HubError: it cannot be had.
        """
        with self._lock:
            self.start(name)
            coming, run = self._coming.get(name), self._run
        try:
            with self._stopped_is_an_error(name, run):
                return self.repository.path(name) if coming is None else coming.result()
        except BaseException:  # Ctrl-C too
            self.stop()
            raise

    @contextlib.contextmanager
    def _stopped_is_an_error(self, name: str, run: "_Run") -> Iterator[None]:
        try:
            yield
        except CancelledError:
            error = run.error or HubError(f"{self.repository}, {name}: its download was stopped")
            raise HubError(str(error), may_pass=error.may_pass) from None

    def stop(self) -> None:
        """Ends all downloads; what was not whole is gone."""
        with self._lock:
            run = self._run
        run.stop()
        with self._lock:
            if self._run is not run:
                return
            self._run = _Run(self._progress)
            self._coming = {
                name: future
                for name, future in self._coming.items()
                if future.done() and not future.cancelled() and future.exception() is None
            }

    def _fetch(self, name: str, run: "_Run") -> str:
        size = self.repository.entries[name].size
        try:
            path = self.repository.fetch(name, report=run.bar.report(size))
        except HubError as error:
            run.error = run.error or error
            raise
        run.bar.arrived()
        return path

    def _has(self, name: str) -> bool:
        if self.repository.force_download and name not in self._coming:
            return False
        return self.repository.has(name)

    def file(self, path: str) -> str:
        """The name in the repository of what has this path."""
        name = os.path.relpath(path, self.repository.folder).replace(os.sep, "/")
        return "" if name == "." else name

    def _prefix(self, folder: str) -> str:
        name = self.file(folder)
        return f"{name}/" if name else ""

    def _inside(self, folder: str) -> list[str]:
        start = self._prefix(folder)
        return [name for name in self.repository.entries if name.startswith(start)]


class RepositoryFile(File):
    """A file of a repository that is not here yet: until it is started it is read by requests for
    ranges, and from then on from the disk, when it is there."""

    is_remote = True

    def __init__(self, store: RepositoryStore, name: str):
        repository = store.repository
        super().__init__(repository.path(name), repository.entries[name].size)
        self._store, self._name = store, name
        self._started: bool | None = None  # False once it was stopped, for readers that wait
        self._local: File | None = None
        self._head = self._ask(0, min(_HEAD, self.size))

    def start(self) -> None:
        self._started = True
        self._store.start(self._name)

    def stop(self) -> None:
        self._started = False
        self._store.stop()

    def _fill(self, offset: int, view: memoryview) -> None:
        if self._started is not None:
            self._here().read_into(offset, view)
            return
        head = self._head[offset : offset + len(view)]
        view[: len(head)] = head
        if len(head) < len(view):
            view[len(head) :] = self._ask(offset + len(head), len(view) - len(head))

    def _fill_rows(self, offset: int, rows: list[memoryview]) -> None:
        if self._started is None:
            super()._fill_rows(offset, rows)
        else:
            self._here().read_rows(offset, rows)

    def _ask(self, offset: int, count: int) -> bytes:
        return self._store.repository.read_range(self._name, offset, count)

    def _here(self) -> File:
        with self._lock:
            if self._local is None:
                if not self._started:  # meanwhile
                    raise HubError(f"{self._store.repository}, {self._name}: it was stopped")
                file = LocalFile(self._store.here(self._name))
                if file.read(0, len(self._head)) != self._head:
                    raise HubError(
                        f"{self._store.repository}, {self._name}: begins otherwise than what the "
                        "Hub gave of it before; the file that came is the one that its hash says: "
                        "load it again"
                    )
                self._local = file
            return self._local


class _Run:
    """Downloads that end together, where one of them fails or somebody says so."""

    def __init__(self, shown: bool):
        self.stopped = Stop()
        self.bar = Bar(shown, self.stopped)
        self.error: HubError | None = None  # the first
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pending = 0

    def submit(self, call: Callable[..., T], *args: Any) -> "Future[T]":
        with self._lock:
            self.stopped.check()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="flaxmodels-hub")
            self._pending += 1
            return self._pool.submit(self._called, call, *args)

    def _called(self, call: Callable[..., T], *args: Any) -> T:
        try:
            with self.stopped.heeded():
                self.stopped.check()
                return call(*args)
        finally:
            with self._lock:
                self._pending -= 1
                if not self._pending and self._pool is not None:  # its threads end
                    self._pool.shutdown(wait=False)
                    self._pool = None

    def stop(self) -> None:
        with self._lock:
            self.stopped.give()
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self.bar.close()
