"""Stores: what is in a folder, and how its files are opened, wherever the folder is."""

import enum
import os
from collections.abc import Sequence
from typing import Protocol

from ..errors import CheckpointError
from .files import File, LocalFile, check_size


class Reads(enum.Enum):
    """How a format reads its files: what it needs to know of them is at their START, it is ALL over
    them, or another library opens them by their PATH."""

    START = enum.auto()
    ALL = enum.auto()
    PATH = enum.auto()


class Store(Protocol):
    """Folders and files by their paths, which need not exist on this machine's disk."""

    def is_folder(self, path: str) -> bool: ...

    def exists(self, path: str) -> bool: ...

    def names(self, folder: str) -> list[str]:
        """Lists a folder."""
        ...

    def expect(self, paths: Sequence[str], reads: Reads) -> None:
        """Prepares files, or folders of files, that are opened next; `Reads.PATH`: on the disk."""
        ...

    def open(self, path: str, most: int | None = None) -> File:
        """Opens a file; one of more than `most` bytes is refused, and not fetched first."""
        ...


class _Local:
    """This machine's disks."""

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(folder or "."))
        except OSError as error:
            raise CheckpointError(f"{folder}: {error.strerror}") from error

    def expect(self, paths: Sequence[str], reads: Reads) -> None:
        pass

    def open(self, path: str, most: int | None = None) -> File:
        file = LocalFile(path)
        check_size(path, file.size, most)
        return file


LOCAL: Store = _Local()
