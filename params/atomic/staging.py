"""Staging: hidden folders that savers write into, told from those that dead savers left.

Beside each lies a file that its saver has locked. Process numbers and host names would not tell:
containers share a disk and have both in common.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ..host import locks

_DAY = 24 * 60 * 60
_LONGEST = 200  # bytes of a folder's name that are part of its staging folders'
_LOCK = ".lock"
_SPARE = 8  # descriptors kept for removing folders, for a save may fail because there are no others


@contextlib.contextmanager
def held(parent: Path, folder: Path) -> Iterator[Path]:
    """Makes a folder in `parent` for what is to be in `folder`; it is gone with the context."""
    while True:
        path = parent / f"{_prefix(folder)}{locks.kernel()}-{secrets.token_hex(4)}"
        lock = Path(f"{path}{_LOCK}")
        if (descriptor := locks.hold(lock)) is not None:
            break
    spare: list[int] = []
    try:
        spare += (os.dup(descriptor) for _ in range(_SPARE))
        path.mkdir()
        yield path
    finally:
        for one in spare:
            os.close(one)
        _remove(path, lock)
        locks.release(descriptor)


def sweep(folder: Path) -> None:
    """Removes what savers of `folder` left that were killed: at once if they ran under this kernel,
    else, and where the disk has no locks, a day after anything was written there."""
    known = re.compile(rf"{re.escape(_prefix(folder))}(.+)-[0-9a-f]{{8}}")
    for parent in (folder.parent, folder):
        try:
            names = {name.removesuffix(_LOCK) for name in os.listdir(parent)}
        except OSError:
            continue
        for name in names:
            if found := known.fullmatch(name):
                with contextlib.suppress(OSError):
                    _sweep(parent / name, found[1])


def discard(path: Path) -> bool:
    """Removes a folder -> whether it is gone. It stays while somebody reads an orbax checkpoint in
    it, for that is read by the names of its files."""
    with contextlib.suppress(OSError):
        inside = (Path(root) for root, _, _ in os.walk(path))
        if not any(map(locks.is_held, inside)):
            shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


def _sweep(path: Path, kernel: str) -> None:
    lock = Path(f"{path}{_LOCK}")
    with contextlib.ExitStack() as stack:
        is_free = None
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            is_free = locks.try_lock(descriptor, fcntl.LOCK_EX)
        if is_free is False:
            return
        if (is_free and kernel == locks.kernel()) or time.time() - _last_written(path) > _DAY:
            _remove(path, lock)


def _remove(path: Path, lock: Path) -> None:
    """Removes a folder, then its lock: a folder without one is not known to be a dead saver's."""
    if discard(path):
        with contextlib.suppress(OSError):
            os.unlink(lock)


def _last_written(path: Path) -> float:
    paths = [path, *(Path(root, name) for root, _, names in os.walk(path) for name in names)]
    try:
        return max(path.lstat().st_mtime for path in paths)
    except OSError as error:
        return 0 if error.errno == errno.ENOENT and not path.exists() else time.time()


def _prefix(folder: Path) -> str:
    name = folder.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f".{name}.tmp-"
