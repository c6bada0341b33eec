"""Downloads of a repository's files: the first bytes of each are requested by themselves, the rest
is read from the disk once the file is there, while the next ones come."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from ..params.formats import File, LocalFile, Reads, check_size
from .cancellation import Cancellation
from .errors import HubError
from .progress import ProgressBar
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
        self._batch = _Batch(progress)
        self._downloads: dict[str, Future[str]] = {}
        self._opened: dict[str, File] = {}

    def is_folder(self, path: str) -> bool:
        return not self.file(path) or bool(self._inside(path))

    def exists(self, path: str) -> bool:
        return self.file(path) in self.repository.entries or self.is_folder(path)

    def names(self, folder: str) -> list[str]:
        start = self._prefix(folder)
        return sorted({name[len(start) :].partition("/")[0] for name in self._inside(folder)})

    def expect(self, paths: Sequence[str], reads: Reads) -> None:
        names = [name for path in paths for name in self._inside(path) or [self.file(path)]]
        if reads is Reads.START:
            absent = [name for name in names if name not in self._opened and not self._has(name)]
            self._opened.update(zip(absent, self._read_heads(absent), strict=True))
            return
        for name in names:
            self.announce(name)
        for name in names:
            self.start(name)
        if reads is Reads.PATH:
            for name in names:
                self.wait_for(name)

    def _read_heads(self, names: list[str]) -> list["RepositoryFile"]:
        batch = _Batch(progress=False)
        try:
            futures = [batch.submit(RepositoryFile, self, name) for name in names]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:  # Ctrl-C too
            batch.cancel()
            raise

    def open(self, path: str, most: int | None = None) -> File:
        name = self.file(path)
        if name in self._opened:
            return self._opened[name]
        if name not in self.repository.entries:
            raise HubError(f"{self.repository}: the repository has no file {name}")
        check_size(f"{self.repository}, {name}", self.repository.entries[name].size, most)
        return LocalFile(self.wait_for(name))

    def announce(self, name: str) -> None:
        """Adds a file to the total of the bar, unless it is here or on its way."""
        with self._lock:
            if name not in self._downloads and not self._has(name):
                self._batch.bar.expect(name, self.repository.entries[name].size)

    def start(self, name: str) -> None:
        """Begins to download a file, unless it is here or on its way."""
        with self._lock, self._cancelled_is_an_error(name, self._batch):
            self.announce(name)
            if name not in self._downloads and not self._has(name):
                self._downloads[name] = self._batch.submit(self._fetch, name, self._batch)

    def wait_for(self, name: str) -> str:
        """Returns the path of a file, once it is here. If it cannot be had, all downloads end.

        Raises:
            HubError: it cannot be had.
        """
        with self._lock:
            self.start(name)
            download, batch = self._downloads.get(name), self._batch
        try:
            with self._cancelled_is_an_error(name, batch):
                return self.repository.path(name) if download is None else download.result()
        except BaseException:  # Ctrl-C too
            self.cancel()
            raise

    @contextlib.contextmanager
    def _cancelled_is_an_error(self, name: str, batch: "_Batch") -> Iterator[None]:
        try:
            yield
        except CancelledError:
            error = batch.error or HubError(f"{self.repository}, {name}: its download was stopped")
            raise HubError(str(error), may_pass=error.may_pass) from None

    def cancel(self) -> None:
        """Ends all downloads; files that are not whole are removed."""
        with self._lock:
            batch = self._batch
        batch.cancel()
        with self._lock:
            if self._batch is not batch:
                return
            self._batch = _Batch(self._progress)
            self._downloads = {
                name: future
                for name, future in self._downloads.items()
                if future.done() and not future.cancelled() and future.exception() is None
            }

    def _fetch(self, name: str, batch: "_Batch") -> str:
        size = self.repository.entries[name].size
        try:
            path = self.repository.fetch(name, report=batch.bar.report(size))
        except HubError as error:
            batch.error = batch.error or error
            raise
        batch.bar.finish(name)
        return path

    def _has(self, name: str) -> bool:
        if self.repository.force_download and name not in self._downloads:
            return False
        return self.repository.has(name)

    def file(self, path: str) -> str:
        """Returns the name in the repository of the file, or folder, that has this path."""
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
        self._head = self._request(0, min(_HEAD, self.size))

    def announce(self) -> None:
        self._store.announce(self._name)

    def start(self) -> None:
        self._started = True
        self._store.start(self._name)

    def stop(self) -> None:
        self._started = False
        self._store.cancel()

    def _fill(self, offset: int, view: memoryview) -> None:
        if self._started is not None:
            self._downloaded().read_into(offset, view)
            return
        head = self._head[offset : offset + len(view)]
        view[: len(head)] = head
        if len(head) < len(view):
            view[len(head) :] = self._request(offset + len(head), len(view) - len(head))

    def _fill_rows(self, offset: int, rows: list[memoryview]) -> None:
        if self._started is None:
            super()._fill_rows(offset, rows)
        else:
            self._downloaded().read_rows(offset, rows)

    def _request(self, offset: int, count: int) -> bytes:
        return self._store.repository.read_range(self._name, offset, count)

    def _downloaded(self) -> File:
        with self._lock:
            if self._local is None:
                if not self._started:  # meanwhile
                    raise HubError(f"{self._store.repository}, {self._name}: it was stopped")
                file = LocalFile(self._store.wait_for(self._name))
                if file.read(0, len(self._head)) != self._head:
                    raise HubError(
                        f"{self._store.repository}, {self._name}: begins otherwise than what the "
                        "Hub gave of it before; the file that came is the one that its hash says: "
                        "load it again"
                    )
                self._local = file
            return self._local


class _Batch:
    """Downloads that end together when one of them fails, or when they are cancelled."""

    def __init__(self, progress: bool):
        self.cancellation = Cancellation()
        self.bar = ProgressBar(progress, self.cancellation)
        self.error: HubError | None = None  # the first
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pending = 0

    def submit(self, call: Callable[..., T], *args: object) -> "Future[T]":
        with self._lock:
            self.cancellation.check()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="flaxmodels-hub")
            self._pending += 1
            return self._pool.submit(self._run, call, *args)

    def _run(self, call: Callable[..., T], *args: object) -> T:
        try:
            with self.cancellation.scope():
                self.cancellation.check()
                return call(*args)
        finally:
            with self._lock:
                self._pending -= 1
                if not self._pending and self._pool is not None:  # its threads end
                    self._pool.shutdown(wait=False)
                    self._pool = None

    def cancel(self) -> None:
        with self._lock:
            self.cancellation.cancel()
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self.bar.close()
