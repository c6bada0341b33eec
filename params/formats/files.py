"""Files: bytes by (file, offset, length), read with `pread` into buffers of our own.

A map of the file would be shorter, but reading through one costs twice the resident memory, three
times the time, and a signal instead of an error when the file shrinks.
"""

import abc
import contextlib
import dataclasses
import os
import resource
import stat
import threading
import weakref

from .. import strict_json
from ..errors import CheckpointError, quoted
from ..strict_json import Json

_LARGEST_READ = 1 << 30  # Linux reads at most 0x7ffff000 bytes at once
_MOST_ROWS = 1024  # buffers that Linux fills at once
LARGEST_JSON = 100 << 20
_MOST_KEPT = 32  # files kept open; no more than a quarter of those that this process may have
_WINDOW = 1 << 16
_LFS = b"version https://git-lfs.github.com/spec/"


class File(abc.ABC):
    """Bytes that must not change while they are in use, wherever they are.

    Attributes:
        path: what to call them.
        size: in bytes.
        bytes_read: how many payload bytes have been read so far, by all threads.
        is_remote: whether a read may wait for a network.
        is_kept: whether it is on this machine's disk, at the latest once it was started.
    """

    is_remote = False
    is_kept = True

    def __init__(self, path: str, size: int):
        self.path = path
        self.size = size
        self.bytes_read = 0
        self._lock = threading.Lock()

    def __reduce__(self):
        raise TypeError(
            f"{self.path}: what is read off an open file is neither pickled nor copied: hand on "
            "the path, and call fp.open_checkpoint there; or read the tensor, and hand on the array"
        )

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (contiguous bytes) from `offset` on."""
        view = memoryview(buffer).cast("B")
        self._fill(offset, view)
        self._count(len(view))

    def read_rows(self, offset: int, rows: list[memoryview]) -> None:
        """Fills one buffer after the other from `offset` on."""
        self._fill_rows(offset, rows)
        self._count(sum(map(len, rows)))

    @abc.abstractmethod
    def _fill(self, offset: int, view: memoryview) -> None: ...

    def _fill_rows(self, offset: int, rows: list[memoryview]) -> None:
        data = memoryview(bytearray(sum(map(len, rows))))
        self._fill(offset, data)
        for row in rows:
            row[:] = data[: len(row)]
            data = data[len(row) :]

    def _count(self, count: int) -> None:
        with self._lock:
            self.bytes_read += count

    def announce(self) -> None:
        """Says that the file will be started, so that a progress bar knows its total."""
        return

    def start(self) -> None:
        """Begins to download the file, if it is remote; a read of it then waits."""
        return

    def stop(self) -> None:
        """Ends its download."""
        return

    def read(self, offset: int, length: int) -> bytes:
        """Reads `length` bytes from `offset` on; the caller has checked `length` against `size`."""
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def json(self, what: str) -> Json:
        """Reads the file as JSON; an error calls it `what`."""
        check_size(self.path, self.size, LARGEST_JSON)
        self.reject_lookalikes()
        try:
            return strict_json.loads(self.read(0, self.size))
        except ValueError as error:
            raise CheckpointError(f"{self.path}: not {what}: {error}") from None

    def reject_lookalikes(self) -> None:
        """Raises for what is often found under a checkpoint's name: LFS pointers and web pages."""
        start = self.read(0, min(self.size, 256))
        if start.startswith(_LFS):
            raise CheckpointError(
                f"{self.path}: this is a Git LFS pointer, not the file itself; run git lfs pull"
            )
        if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise CheckpointError(f"{self.path}: starts with HTML; this is a web page, not a file")


def check_size(path: str, size: int, most: int | None) -> None:
    """Refuses a file that is larger than what it should be ever is."""
    if most is not None and size > most:
        raise CheckpointError(f"{path}: {size} bytes; it has at most {most}")


class LocalFile(File):
    """A regular file.

    It stays open, so that a file that is replaced meanwhile is read as it was; where many are open
    already, it is opened for each read instead and must then still be the same.

    Raises:
        CheckpointError: not there, not readable, or not a regular file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = self._place = os.fspath(path)
        with contextlib.suppress(OSError):  # the working folder may change, or be gone already
            self._place = os.path.join(os.getcwd(), self.path)
        descriptor, info = self._open()
        super().__init__(self.path, info.st_size)
        self._identity = _identity(info)
        self._descriptor = _kept(self, descriptor)

    def _fill_rows(self, offset: int, rows: list[memoryview]) -> None:
        for first in range(0, len(rows), _MOST_ROWS):
            some = rows[first : first + _MOST_ROWS]
            self._fill_all(offset, some)
            offset += sum(map(len, some))

    def _fill(self, offset: int, view: memoryview) -> None:
        for start in range(0, len(view), _LARGEST_READ):
            self._fill_all(offset + start, [view[start : start + _LARGEST_READ]])

    def _fill_all(self, offset: int, views: list[memoryview]) -> None:
        try:
            if self._descriptor is not None:
                self._read(self._descriptor, os.fstat(self._descriptor), offset, views)
                return
            descriptor, info = self._open()
            try:
                self._read(descriptor, info, offset, views)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise CheckpointError(f"{self.path}: {error.strerror}") from error

    def _read(
        self, descriptor: int, info: os.stat_result, offset: int, views: list[memoryview]
    ) -> None:
        if _identity(info) != self._identity:
            raise CheckpointError(f"{self.path}: the file changed while it was being read")
        stop = offset + sum(map(len, views))
        while offset < stop:
            count = os.preadv(descriptor, views, offset)
            if count == 0:
                raise CheckpointError(
                    f"{self.path}: ended at byte {offset}, expected {stop}: the file was cut while "
                    "it was being read"
                )
            offset += count
            if offset < stop:
                views = _without(views, count)

    def _open(self) -> tuple[int, os.stat_result]:
        try:
            # O_NONBLOCK: opening a FIFO must not wait for a writer.
            descriptor = os.open(self._place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(
                f"{self.path}: cannot be opened: {reason}{_link(self.path)}"
            ) from error
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            os.close(descriptor)
            raise CheckpointError(f"{self.path}: not a regular file")
        return descriptor, info


def _link(path: str) -> str:
    """Says where a link leads, for the error of a path that cannot be opened."""
    try:
        return f"; it is a link to {quoted(os.readlink(path))}"
    except (OSError, ValueError):
        return ""


def _without(views: list[memoryview], count: int) -> list[memoryview]:
    """Returns the parts of buffers that are left when the first `count` bytes are filled."""
    for i, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[i + 1 :]]
        count -= len(view)
    return []


_keepers: set[int] = set()


def _kept(file: LocalFile, descriptor: int) -> int | None:
    """Keeps a descriptor open as long as `file` exists -> None, and it is closed, where enough
    are open."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = allowed // 4 if allowed != resource.RLIM_INFINITY else _MOST_KEPT
    if len(_keepers) >= min(_MOST_KEPT, few):
        os.close(descriptor)
        return None
    _keepers.add(descriptor)
    weakref.finalize(file, _close, descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    _keepers.discard(descriptor)
    os.close(descriptor)


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


@dataclasses.dataclass(frozen=True)
class Span:
    """`length` bytes of `file` from `offset` on."""

    file: File
    offset: int
    length: int


class Cursor:
    """Reads a part of a file from front to back, 64 KiB at a time.

    Attributes:
        position: where the next byte lies in the file.
        stop: where the part ends.
    """

    def __init__(self, file: File, start: int = 0, stop: int | None = None):
        self.file = file
        self.position = start
        self.stop = file.size if stop is None else stop
        self._window = b""
        self._start = start

    def take(self, count: int) -> bytes:
        """Reads the next `count` bytes."""
        self._check(count)
        at = self.position - self._start
        if at + count > len(self._window):
            self._start, at = self.position, 0
            length = min(max(count, _WINDOW), self.stop - self.position)
            self._window = self.file.read(self.position, length)
        self.position += count
        return self._window[at : at + count]

    def skip(self, count: int) -> None:
        self._check(count)
        self.position += count

    def line(self, most: int) -> bytes:
        """Reads up to the next newline, which must be among the next `most` bytes."""
        start = self.position
        line, newline, _ = self.take(min(most, self.stop - start)).partition(b"\n")
        if not newline:
            raise CheckpointError(f"{self.file.path}: byte {start}: no line of {most} bytes")
        self.position = start + len(line) + 1
        return line

    def _check(self, count: int) -> None:
        if count > self.stop - self.position:
            raise CheckpointError(
                f"{self.file.path}: cut short: {count} bytes expected at byte {self.position} of "
                f"{self.stop}"
            )
