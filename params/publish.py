"""Publishing: what was written beside a folder takes the place of what is in it.

A reader finds the whole old checkpoint or the whole new one, whenever it looks and whenever the
writer is killed. Where a folder holds nothing but the checkpoint, old and new folder change places
in one step (Linux: `renameat2`). A folder that holds other things as well stays itself: new shards
come in under names of their own, and the rename of one file, the index or the single weights file,
makes them the checkpoint. A config that differs is renamed just before it.
"""

import contextlib
import ctypes
import dataclasses
import fcntl
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from .errors import CheckpointError

T = TypeVar("T")
_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_DAY = 24 * 60 * 60
_TRIES = 10
_OLD = "not saved: {}; what was there still is"
_WHOLE = "while publishing: {}; the old checkpoint or the new one is there, whole"


@dataclasses.dataclass(frozen=True)
class Staging:
    """Where to write.

    Attributes:
        path: an empty folder.
        tag: to be part of the names of shards, so that they are not those of the old ones; ""
            where folders change places.
    """

    path: Path
    tag: str


@contextlib.contextmanager
def replacing(
    folder: str | os.PathLike, *, is_ours: Callable[[str], bool], is_head: Callable[[str], bool]
) -> Iterator[Staging]:
    """A staging folder, whose content takes the place of `folder`'s on leaving the context; if
    that is left by an exception, `folder` is as it was.

    Args:
        is_ours: whether a name in the folder belongs to the checkpoint that is replaced. Others
            stay.
        is_head: whether a name makes a folder a checkpoint: an index or a single weights file.

    Raises:
        CheckpointError: a disk that is full, fails, or may not be written.
    """
    folder = Path(os.path.realpath(folder))
    with _errors_name(folder, _OLD):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        path, swaps = _stage(folder, is_ours)
    try:
        yield Staging(path, "" if swaps else f"-{secrets.token_hex(4)}")
        with _errors_name(folder, _OLD):
            _sync(path)
        with _errors_name(folder, _WHOLE), _locked(folder.parent, fcntl.LOCK_EX):
            if swaps:
                _swap(path, folder, is_ours)
            else:
                _move_in(path, folder, is_ours, is_head)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def settled(folder: str | os.PathLike, read: Callable[[], T]) -> T:
    """`read()`, so that no `replacing(folder)` takes effect in its middle: what it opens is of one
    save, and files that are open stay what they are. It may be called more than once.

    Raises:
        CheckpointError: `read`'s own, or other processes never leave the folder alone.
    """
    folder = Path(os.path.realpath(folder))
    for attempt in range(_TRIES):
        with (
            _locked(folder.parent, fcntl.LOCK_SH)
            if attempt
            else contextlib.nullcontext(False) as locked
        ):
            before = _state(folder)
            try:
                result = read()
            except CheckpointError:
                if locked or _state(folder) == before:
                    raise
            else:
                if locked or _state(folder) == before:
                    return result
    raise CheckpointError(f"{folder}: other processes keep changing what is in it")


def _state(folder: Path) -> tuple[int, ...] | None:
    try:
        info = os.stat(folder)
    except OSError:
        return None
    return info.st_dev, info.st_ino, info.st_mtime_ns


@contextlib.contextmanager
def _errors_name(folder: Path, said: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        what = said.format(f"{error.strerror or error}{where}")
        raise CheckpointError(f"{folder}: {what}") from error


def _stage(folder: Path, is_ours: Callable[[str], bool]) -> tuple[Path, bool]:
    """(a new folder on the disk of `folder`, whether the two can change places)."""
    name = f".{folder.name}.tmp-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    path = folder.parent / name
    if not folder.exists():
        path.mkdir()
        return path, True
    alone = all(map(is_ours, os.listdir(folder))) and not _is_inside(_here(), folder)
    if alone and folder.stat().st_dev == folder.parent.stat().st_dev:
        with contextlib.suppress(PermissionError):
            path.mkdir()
            path.chmod(folder.stat().st_mode & 0o7777)
            if _can_exchange(path):
                return path, True
            path.rmdir()
    path = folder / name
    path.mkdir()
    return path, False


def _swap(path: Path, folder: Path, is_ours: Callable[[str], bool]) -> None:
    """`path` becomes `folder`; what came into the old one meanwhile and is not ours goes along."""
    if not folder.exists():
        path.rename(folder)
    else:
        _exchange(path, folder)
        for name in os.listdir(path):
            if not is_ours(name) and not os.path.lexists(folder / name):
                os.rename(path / name, folder / name)
    _sync_folder(folder.parent)


def _move_in(
    path: Path, folder: Path, is_ours: Callable[[str], bool], is_head: Callable[[str], bool]
) -> None:
    names = sorted(os.listdir(path), key=is_head)
    for name in names:
        if is_head(name):
            _sync_folder(folder)  # whatever it refers to is there before it
        if (folder / name).is_dir():
            _exchange(path / name, folder / name)
        else:
            os.replace(path / name, folder / name)
    _sync_folder(folder)
    stale = [name for name in os.listdir(folder) if is_ours(name) and name not in names]
    for name in sorted(stale, key=lambda name: not is_head(name)):
        _remove(folder / name)
    _sync_folder(folder)


def _sweep(folder: Path) -> None:
    """Removes what writers left that were killed: those of this machine that no longer run, and
    those of others after a day."""
    prefix = f".{folder.name}.tmp-"
    for parent in (folder.parent, folder):
        with contextlib.suppress(OSError):
            for name in os.listdir(parent):
                host, _, process = name.removeprefix(prefix).rpartition("-")[0].rpartition("-")
                if not name.startswith(prefix) or not process.isdecimal():
                    continue
                here = host == socket.gethostname()
                old = time.time() - (parent / name).stat().st_mtime > _DAY
                if not _runs(int(process)) if here else old:
                    shutil.rmtree(parent / name, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@contextlib.contextmanager
def _locked(folder: Path, kind: int) -> Iterator[bool]:
    """One publishing at a time beside another, and none while others read: yields whether it is
    so, for a disk without locks does without."""
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, kind)
        except OSError:
            yield False
        else:
            yield True


def _can_exchange(path: Path) -> bool:
    probes = path / "a", path / "b"
    for probe in probes:
        probe.mkdir()
    try:
        _exchange(*probes)
    except OSError:
        return False
    finally:
        for probe in probes:
            probe.rmdir()
    return True


def _exchange(a: Path, b: Path) -> None:
    """Makes two folders change places in one step."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError("this system cannot make two folders change places")
    here = ctypes.c_int(-100)  # AT_FDCWD
    if rename(here, os.fsencode(a), here, os.fsencode(b), ctypes.c_uint(_EXCHANGE)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(b))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(folder: Path) -> None:
    """Everything under `folder` is on the disk."""
    for root, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(os.path.join(root, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_folder(Path(root))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_inside(path: str, folder: Path) -> bool:
    return os.path.commonpath([path, folder]) == str(folder)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder is gone
        return "/"
