"""Files: bytes by (file, offset, length), read with `pread` into buffers of our own.

A map of the file would be shorter, but reading through one costs twice the resident memory, three
times the time, and a signal instead of an error when the file shrinks.
"""

import dataclasses
import os
import stat
import threading
from pathlib import Path

from ..errors import CheckpointError

_LARGEST_READ = 1 << 30  # Linux reads at most 0x7ffff000 bytes at once
_LFS = b"version https://git-lfs.github.com/spec/"


class File:
    """A regular file that is opened for each read and must not change in between.

    Attributes:
        path: as given.
        size: in bytes.
        bytes_read: how many payload bytes have been read so far, by all threads.

    Raises:
        CheckpointError: not there, not readable, or not a regular file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self.bytes_read = 0
        self._lock = threading.Lock()
        descriptor, info = self._open()
        os.close(descriptor)
        self.size = info.st_size
        self._identity = _identity(info)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (contiguous bytes) from `offset` on."""
        view = memoryview(buffer).cast("B")
        descriptor, info = self._open()
        try:
            if _identity(info) != self._identity:
                raise CheckpointError(f"{self.path}: the file changed while it was being read")
            done = 0
            while done < len(view):
                chunk = view[done : done + _LARGEST_READ]
                count = os.preadv(descriptor, [chunk], offset + done)
                if count == 0:
                    raise CheckpointError(
                        f"{self.path}: ended at byte {offset + done}, expected "
                        f"{offset + len(view)}: the file was cut while it was being read"
                    )
                done += count
        except OSError as error:
            raise CheckpointError(f"{self.path}: {error.strerror}") from error
        finally:
            os.close(descriptor)
        with self._lock:
            self.bytes_read += len(view)

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on; `length` must have been checked against `size`."""
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def reject_lookalikes(self) -> None:
        """Raises for what is often found under a checkpoint's name: LFS pointers and web pages."""
        start = self.read(0, min(self.size, 256))
        if start.startswith(_LFS):
            raise CheckpointError(
                f"{self.path}: this is a Git LFS pointer, not the file itself; run git lfs pull"
            )
        if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise CheckpointError(f"{self.path}: starts with HTML; this is a web page, not a file")

    def _open(self) -> tuple[int, os.stat_result]:
        try:
            # O_NONBLOCK: opening a FIFO must not wait for a writer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{self.path}: cannot be opened: {reason}") from error
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            os.close(descriptor)
            raise CheckpointError(f"{self.path}: not a regular file")
        return descriptor, info


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


@dataclasses.dataclass(frozen=True)
class Span:
    """`length` bytes of `file` from `offset` on."""

    file: File
    offset: int
    length: int


def check_inside(folder: str, path: str) -> None:
    """Refuses a link out of the folder, except from a Hub cache's snapshot to its blobs."""
    root, real = os.path.realpath(folder or "."), os.path.realpath(path)
    snapshots = (parent for parent in Path(root).parents if parent.name == "snapshots")
    roots = [root, *(str(parent.parent / "blobs") for parent in snapshots)]
    if not any(os.path.commonpath([base, real]) == base for base in roots):
        raise CheckpointError(f"{path}: a link that leads out of the folder, to {real}")
