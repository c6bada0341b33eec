"""Publishing: what was written beside a folder takes the place of what is in it.

A reader finds the whole old checkpoint or the whole new one, whenever it looks and whenever the
writer is killed. Where a folder holds nothing but the checkpoint, old and new folder change places
in one step (Linux: `renameat2`). A folder that holds other things as well, and one that may not be
renamed, stays itself (`in_place`).
"""

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ..errors import CheckpointError
from ..host.durable import folders, sync, sync_folder
from ..host.locks import is_held, locked
from . import staging
from .in_place import move_in

T = TypeVar("T")
_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_TRIES = 10
_OLD = "not saved: {}; what was there still is"
_WHOLE = "while replacing: {}; the old checkpoint or the new one is there, whole"


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
def atomic_replace(
    folder: str | os.PathLike,
    *,
    is_ours: Callable[[str], bool],
    is_main_file: Callable[[str], bool],
    retag: Callable[[Path, str], None] | None = None,
) -> Iterator[Staging]:
    """Yields a staging folder, whose content takes the place of `folder`'s on leaving the context;
    if that is left by an exception, `folder` is as it was.

    Args:
        is_ours: whether a name in the folder belongs to the checkpoint that is replaced. Others
            stay.
        is_main_file: whether a name makes a folder a checkpoint: an index or a single weights file.
        retag: gives the shards in a folder, written without a tag, this one. It is called where
            the folders turn out not to change places.

    Raises:
        CheckpointError: a disk that is full, fails, or may not be written; or somebody has a lock
            on the folder above for long.
    """
    folder = Path(os.path.realpath(folder))
    if os.path.islink(folder):
        raise CheckpointError(f"{folder}: not saved: a link that leads back to itself")
    with contextlib.ExitStack() as stack:
        with _errors_name(folder, _OLD):
            stack.enter_context(folders(folder.parent))
            staging.sweep(folder)
            path, swaps = _stage(folder, is_ours, stack)
        tag = f"-{secrets.token_hex(4)}"
        yield Staging(path, "" if swaps else tag)
        with _errors_name(folder, _OLD):
            _check_names(path, folder, lambda name: is_main_file(name) and not is_ours(name))
            sync(path)
        with _errors_name(folder, _WHOLE), locked(folder.parent, fcntl.LOCK_EX):
            if swaps and _swap(path, folder, is_ours):
                return
            if swaps and retag is not None:
                retag(path, tag)
                sync(path)
            move_in(path, folder, is_ours, is_main_file, _exchange)


def settled(folder: str | os.PathLike, read: Callable[[], T]) -> T:
    """Returns `read()`, during which no `atomic_replace` of `folder` takes effect: what it opens is
    of one save, and files that are open stay what they are. It may be called more than once.

    Raises:
        CheckpointError: `read`'s own, or other processes never leave the folder alone.
    """
    folder = Path(os.path.realpath(folder))
    for attempt in range(_TRIES):
        waits = attempt > 0 or is_held(folder.parent, fcntl.LOCK_SH)
        with (
            locked(folder.parent, fcntl.LOCK_SH)
            if waits
            else contextlib.nullcontext(False) as alone
        ):
            before = _state(folder)
            try:
                result = read()
            except CheckpointError:
                if alone or _state(folder) == before:
                    raise
            else:
                if alone or _state(folder) == before:
                    return result
    raise CheckpointError(f"{folder}: other processes keep changing what is in it")


def _state(folder: Path) -> object:
    """Returns what differs once a save has taken effect."""
    try:
        info = os.stat(folder)
        with os.scandir(folder) as entries:
            names = {(entry.name, entry.inode()) for entry in entries}
    except OSError:
        return None
    return info.st_dev, info.st_ino, info.st_mtime_ns, names


@contextlib.contextmanager
def _errors_name(folder: Path, said: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        what = said.format(f"{error.strerror or error}{where}")
        raise CheckpointError(f"{folder}: {what}") from error


def _stage(
    folder: Path, is_ours: Callable[[str], bool], stack: contextlib.ExitStack
) -> tuple[Path, bool]:
    """Returns (a new folder on the disk of `folder`, whether the two can change places)."""
    if not folder.exists():
        return stack.enter_context(staging.held(folder.parent, folder)), True
    if all(map(is_ours, os.listdir(folder))) and not _are_in(folder):
        with contextlib.suppress(OSError), contextlib.ExitStack() as beside:
            path = beside.enter_context(staging.held(folder.parent, folder))
            if _are_alike(path, folder) and _can_exchange(path) and _may_be_renamed(folder, path):
                stack.push(beside.pop_all())
                return path, True
    return stack.enter_context(staging.held(folder, folder)), False


def _check_names(path: Path, folder: Path, hides: Callable[[str], bool]) -> None:
    """Refuses to put a file in the place of a folder, whose content nobody asked to remove, or
    beside one that readers would find before it (`hides`)."""
    others = {name for name in os.listdir(folder) if hides(name)} if folder.exists() else set()
    for name in {*os.listdir(path), *others}:
        there = folder / name
        if not (path / name).is_dir() and there.is_dir() and not there.is_symlink():
            raise CheckpointError(
                f"{there}: not saved: a folder, where a file of the checkpoint belongs; move it "
                "away, or save elsewhere"
            )


def _are_alike(path: Path, folder: Path) -> bool:
    """Tells whether one may take the place of the other: on one disk, of one owner; modes are
    copied."""
    new, old = path.stat(), folder.stat()
    path.chmod(old.st_mode & 0o7777)
    return (new.st_dev, new.st_uid, new.st_gid) == (old.st_dev, old.st_uid, old.st_gid)


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


def _may_be_renamed(folder: Path, path: Path) -> bool:
    """Tells whether nothing but what is in `path` keeps `folder` from being renamed to it: not so
    if it is a mount point (EBUSY), of an image's lower layer (EXDEV), or others' (EPERM)."""
    obstacle = path / "a"
    obstacle.mkdir()
    try:
        os.rename(folder, path)
    except OSError as error:
        return error.errno in (errno.ENOTEMPTY, errno.EEXIST)
    else:  # a disk that lets folders replace full ones
        os.rename(path, folder)
        path.mkdir()
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            obstacle.rmdir()


def _swap(path: Path, folder: Path, is_ours: Callable[[str], bool]) -> bool:
    """Lets `path` become `folder`; what came into the old one meanwhile and is not ours goes
    along. False if nothing happened, because the folders cannot change places."""
    if not folder.exists():
        path.rename(folder)
    else:
        try:
            _exchange(path, folder)
        except OSError:
            return False
        for name in os.listdir(path):
            if not is_ours(name) and not os.path.lexists(folder / name):
                os.rename(path / name, folder / name)
    sync_folder(folder.parent)
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


def _are_in(folder: Path) -> bool:
    """Tells whether the working directory is the folder or in it."""
    try:
        return os.path.commonpath([os.getcwd(), folder]) == str(folder)
    except OSError:  # it is gone
        return False
