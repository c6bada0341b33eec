"""Files that a folder itself holds: what may be copied out of it, or published.

Weights are read wherever a link leads. A copy would carry any file that a stranger's link
points to, such as a token, so there a link may lead to the folder itself and to
the Hub's cache, and nowhere else.
"""

import contextlib
import dataclasses
import io
import os
import re
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import CheckpointError, quoted
from .files import check_size

_CACHED = re.compile(r"(.*/models--[^/]+)/(blobs|snapshots)/.+", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class FolderFile:
    """A file of a folder, to be copied or published.

    Attributes:
        folder: the folder that somebody named.
        name: the file's path in it, "tokenizer.json" or "1_Pooling/config.json".
    """

    folder: str
    name: str

    @property
    def path(self) -> str:
        return os.path.join(self.folder, *self.name.split("/"))

    def check(self) -> None:
        """Sees whether the file could be copied or published; raises as `open`."""
        self.open().close()

    def open(self) -> BinaryIO:
        """Opens the file to be read. No link that is put there meanwhile is followed.

        Raises:
            CheckpointError: a link, its own or a folder's on the way, that leads out of the folder
                and of the Hub's cache; no regular file; or the disk's own error.
        """
        if {"", ".", ".."} & {*self.name.split("/")} or "\0" in self.path:
            raise CheckpointError(
                f"{self.folder}: {quoted(self.name)} is not the name of a file in it"
            )
        real = os.path.realpath(self.path)
        base = self._base(real)
        try:
            return os.fdopen(_opened(base, os.path.relpath(real, base)), "rb")
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be copied: {error.strerror}") from error

    def read(self, most: int) -> bytes:
        """Reads the file, of at most `most` bytes; raises as `open`."""
        with self.open() as source:
            content = source.read(most + 1)
        check_size(self.path, len(content), most)
        return content

    def copy(self, folder: str | os.PathLike, content: bytes | None = None) -> Path:
        """Copies it to the same name in another folder, where nothing may have that name yet.

        Args:
            content: written instead of what the file holds.
        """
        target = Path(folder, self.name)
        with self.open() if content is None else io.BytesIO(content) as source:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
            except OSError as error:
                raise CheckpointError(f"{target}: {error.strerror}") from error
        return target

    def _base(self, real: str) -> str:
        """Finds the folder below which `real` may lie."""
        root = os.path.realpath(self.folder or ".")
        snapshots = (parent for parent in Path(root).parents if parent.name == "snapshots")
        bases = [root, *(str(parent.parent / "blobs") for parent in snapshots)]
        if cached := _CACHED.fullmatch(real):
            bases.append(cached[1])
        for base in bases:
            if real != base and os.path.commonpath([base, real]) == base:
                return base
        raise CheckpointError(
            f"{self.path}: a link that leads out of the folder, to {quoted(real)}: what is copied "
            "or published must lie in the folder itself or in the Hub's cache; put the file there "
            "(cp -L), or remove the link"
        )


def _opened(base: str, inside: str) -> int:
    """Opens the regular file at `inside` below `base`, following no link on the way -> its
    descriptor."""
    *folders, name = inside.split(os.sep)
    follow = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    with contextlib.ExitStack() as stack:
        at = os.open(base, follow | os.O_DIRECTORY)
        stack.callback(os.close, at)
        for folder in folders:
            at = os.open(folder, follow | os.O_DIRECTORY, dir_fd=at)
            stack.callback(os.close, at)
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        descriptor = os.open(name, follow | os.O_NONBLOCK, dir_fd=at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{os.path.join(base, inside)}: not a regular file")
    return descriptor
