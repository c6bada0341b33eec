"""Locks of the kernel: whoever holds one is alive, and whoever died holds none. A process number
would not tell: it means another process in another container.

A disk may have no locks: NFS has none for folders, some FUSE disks have none at all. Each function
says what it does there.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import CheckpointError, quoted

PATIENCE = 30.0  # seconds; what is done under a lock takes a few
_SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_BOOT = "/proc/sys/kernel/random/boot_id"

_held: set[int] = set()


@functools.cache
def kernel() -> str:
    """Returns eight digits for the kernel that runs. Only under the same kernel does a free lock
    mean that its holder is dead. The containers of a machine share it; two machines of one name do
    not."""
    try:
        boot = Path(_BOOT).read_text()
    except OSError:  # not Linux
        boot = os.uname().nodename
    return hashlib.sha256(boot.encode()).hexdigest()[:8]


def hold(path: Path) -> int | None:
    """Makes a file and locks it -> its descriptor, for `release`; None if somebody removed it
    before it was locked, as a dead saver's."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
    _held.add(descriptor)
    if try_lock(descriptor, fcntl.LOCK_EX) is False or not is_at(descriptor, path):
        release(descriptor)
        return None
    return descriptor


def release(descriptor: int) -> None:
    """Lets go of what was locked, also for children that were forked meanwhile."""
    _held.discard(descriptor)
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def try_lock(descriptor: int, kind: int) -> bool | None:
    """Tries to lock -> whether the lock is ours now; None if the disk has no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def locked(folder: Path, kind: int) -> Iterator[bool]:
    """Locks a folder: `fcntl.LOCK_EX` for one alone, `fcntl.LOCK_SH` for several that keep that one
    out. Yields whether it is locked; False where there are no locks.

    Raises:
        CheckpointError: somebody else holds the lock, and does not let go within `PATIENCE`.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _SHORT_OF:
            raise CheckpointError(f"{folder}: cannot be locked: {error.strerror}") from error
        yield False
        return
    _held.add(descriptor)
    try:
        yield _wait(descriptor, kind, folder)
    finally:
        release(descriptor)


def is_held(folder: Path, kind: int = fcntl.LOCK_EX) -> bool:
    """Tells whether somebody has a lock on a folder that keeps others from one of this kind."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return try_lock(descriptor, kind) is False
    finally:
        os.close(descriptor)


def _wait(descriptor: int, kind: int, folder: Path) -> bool:
    end, pause = time.monotonic() + PATIENCE, 0.001
    while (got := try_lock(descriptor, kind)) is False:
        if time.monotonic() > end:
            raise CheckpointError(
                f"{folder}: {_holder(descriptor)} has a lock (flock) on this folder and did not "
                f"let go for {PATIENCE:g} seconds, so nothing was done; try again when it has, or "
                "end it"
            )
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return got is True


def _holder(descriptor: int) -> str:
    """Names who has the lock, as far as Linux says it."""
    info = os.fstat(descriptor)
    file = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5] == file and int(words[4]) > 0:
                name = Path(f"/proc/{words[4]}/comm").read_text(errors="replace").strip()
                return f"process {words[4]} ({quoted(name)})"
    return "another process"


def is_at(descriptor: int, path: str | os.PathLike) -> bool:
    """Tells whether what is open is what has this path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _forget() -> None:
    """Closes the locks in a forked child, which would keep them when its parent dies."""
    while _held:
        with contextlib.suppress(OSError):
            os.close(_held.pop())


os.register_at_fork(after_in_child=_forget)
