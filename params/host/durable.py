"""Durability: what was written is on the disk, and so are the names that lead to it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def folders(path: Path) -> Iterator[None]:
    """Makes a folder and those above it; they go again if the context is left by an exception and
    nobody has put anything into them."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        for folder in missing:
            sync_folder(folder.parent)
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def sync(folder: Path) -> None:
    """Waits until everything under `folder` is on the disk."""
    for root, _, files in os.walk(folder, onerror=_raised):
        for name in files:
            sync_file(os.path.join(root, name))
        sync_folder(Path(root))


def sync_file(path: str | os.PathLike) -> None:
    """Waits until what was written to a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    sync_file(folder)


def _raised(error: OSError) -> None:
    raise error
