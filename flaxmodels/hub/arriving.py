"""Files on their way from the Hub: what a load needs of them first is asked for by itself, the rest
is read as soon as the file is here, while the next ones come."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

from .. import params as fp
from .client import HubError
from .ranges import ranged
from .repository import Repository

_AT_ONCE = 4  # files; a server gives each connection its share, so the first is here late if many
_HEAD = 64 << 10  # bytes of a file that are asked for first


class Arriving:
    """The store of a repository: its files by the paths that the cache has, or will have, for them.

    Args:
        progress: show a bar in bytes if it takes longer than a second.
    """

    def __init__(self, repository: Repository, *, progress: bool = True):
        self.repository = repository
        self._progress = progress
        self._lock = threading.RLock()
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[str, Future[str]] = {}
        self._opened: dict[str, fp.File] = {}
        self._bar = _Bar(progress)

    def is_folder(self, path: str) -> bool:
        return not self.file(path) or bool(self._inside(path))

    def exists(self, path: str) -> bool:
        return self.file(path) in self.repository.entries or self.is_folder(path)

    def names(self, folder: str) -> list[str]:
        start = self._prefix(folder)
        return sorted({name[len(start) :].partition("/")[0] for name in self._inside(folder)})

    def expect(self, paths: Sequence[str], reads: fp.Reads) -> None:
        files = [name for path in paths for name in self._inside(path) or [self.file(path)]]
        if reads is fp.Reads.START:
            absent = [name for name in files if name not in self._opened and not self._has(name)]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                found = pool.map(lambda name: ArrivingFile(self, name), absent)
                self._opened.update(zip(absent, found, strict=True))
            return
        for name in files:
            self.start(name)
        if reads is fp.Reads.PATH:
            for name in files:
                self.here(name)

    def open(self, path: str) -> fp.File:
        name = self.file(path)
        if name in self._opened:
            return self._opened[name]
        if name not in self.repository.entries:
            raise HubError(f"{self.repository}: the repository has no file {name}")
        return fp.LocalFile(self.here(name))

    def bring(self, paths: Sequence[str]) -> None:
        """Has these files on the disk."""
        self.expect(paths, fp.Reads.PATH)

    def start(self, name: str) -> None:
        """Begins to fetch a file, unless it is here or on its way."""
        with self._lock:
            if name in self._coming or self._has(name):
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="flaxmodels-hub")
            self._bar.expect(self.repository.entries[name].size)
            self._coming[name] = self._pool.submit(self._fetch, name)

    def here(self, name: str) -> str:
        """The path of a file, once it is here.

        Raises:
            HubError: it cannot be had.
        """
        self.start(name)
        coming = self._coming.get(name)
        try:
            return self.repository.path(name) if coming is None else coming.result()
        except CancelledError:
            raise HubError(f"{self.repository}, {name}: its download was stopped") from None
        except KeyboardInterrupt:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all downloads; what was not whole is gone."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._bar.stopped.set()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            self._bar = _Bar(self._progress)
            self._coming = {
                name: future
                for name, future in self._coming.items()
                if future.done() and not future.cancelled() and future.exception() is None
            }

    def _fetch(self, name: str) -> str:
        bar = self._bar
        if bar.stopped.is_set():
            raise CancelledError
        path = self.repository.fetch(name, report=bar.report())
        bar.arrived()
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


class ArrivingFile(fp.File):
    """A file of a repository that is not here yet: until it is started it is read by requests for
    ranges, and from then on from the disk, when it is there."""

    is_remote = True

    def __init__(self, store: Arriving, name: str):
        repository = store.repository
        super().__init__(repository.path(name), repository.entries[name].size)
        self._store, self._name = store, name
        self._started = False
        self._local: fp.File | None = None
        self._head = self._ask(0, min(_HEAD, self.size))

    def start(self) -> None:
        self._started = True
        self._store.start(self._name)

    def stop(self) -> None:
        self._store.stop()
        self._started = False

    def _fill(self, offset: int, view: memoryview) -> None:
        if self._started:
            self._here().read_into(offset, view)
            return
        head = self._head[offset : offset + len(view)]
        view[: len(head)] = head
        if len(head) < len(view):
            view[len(head) :] = self._ask(offset + len(head), len(view) - len(head))

    def _ask(self, offset: int, count: int) -> bytes:
        return ranged(self._store.repository, self._name, offset, count)

    def _here(self) -> fp.File:
        with self._lock:
            if self._local is None:
                file = fp.LocalFile(self._store.here(self._name))
                if file.read(0, len(self._head)) != self._head:
                    raise HubError(
                        f"{self.path}: begins otherwise than what the Hub gave of it before; the "
                        "file that came is the one that its hash says: load it again"
                    )
                self._local = file
            return self._local


class _Bar:
    """One bar for all files of a store, in bytes; told by threads."""

    def __init__(self, shown: bool):
        self.stopped = threading.Event()
        self._shown = shown
        self._lock = threading.Lock()
        self._bar: tqdm | None = None
        self._files = self._arrived = 0

    def expect(self, size: int) -> None:
        with self._lock:
            if self._bar is None:
                disable = not self._shown
                self._bar = tqdm(
                    total=0, unit="B", unit_scale=True, delay=1, disable=disable, desc="download"
                )
            self._files += 1
            self._bar.total += size
            self._say()

    def arrived(self) -> None:
        with self._lock:
            self._arrived += 1
            self._say()
            if self._bar is not None and self._arrived == self._files:
                self._bar.close()
                self._bar = None
                self._files = self._arrived = 0

    def add(self, count: float) -> None:
        if self.stopped.is_set():
            raise CancelledError
        with self._lock:
            if self._bar is not None:
                self._bar.update(count)

    def report(self) -> type:
        """What huggingface_hub takes for the bar of one file; another try at it starts anew."""
        return type("Report", (_Report,), {"bar": self, "told": [0.0]})

    def _say(self) -> None:
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(f"{self._arrived} of {self._files} files", refresh=False)


class _Report:
    bar: _Bar
    told: list[float]  # bytes, over all tries

    def __init__(self, *_: Any, desc: str | None = None, initial: int = 0, **__: Any):
        # Xet shows what comes over the wire as well, which is not what there is of the file.
        self._counts = "downloading bytes" not in (desc or "")
        if self._counts:
            self.update(initial - self.told[0])

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:  # of a bar: refresh, set_description, close, ...
        return lambda *_, **__: None

    def update(self, count: float | None = 1) -> None:
        if self._counts and count:
            self.told[0] += count
            self.bar.add(count)
