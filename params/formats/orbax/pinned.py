"""Pinned folders, which another library can read by their paths while savers replace them."""

import fcntl
import os
import weakref

from ...errors import CheckpointError
from ...host import locks


class PinnedFolder:
    """A folder that is read as it is now, even when another takes its name.

    Attributes:
        path: leads to it for as long as this object is there. On Linux it names the folder itself,
            not what is now called so; and no saver of ours removes it meanwhile, where the disk
            has locks (`staging.discard`).

    Raises:
        CheckpointError: it is gone, or another took its name just now.
    """

    def __init__(self, folder: str):
        self.folder, self.path = folder, os.path.abspath(folder)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CheckpointError(f"{folder}: {error.strerror}") from error
        weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        locks.try_lock(descriptor, fcntl.LOCK_SH)
        self.check()
        if os.path.isdir(own := f"/proc/self/fd/{descriptor}"):
            self.path = own

    def check(self) -> None:
        """Raises `CheckpointError` if another folder has its name now, and so may have had it while
        it was read by name."""
        if not locks.is_at(self._descriptor, self.folder):
            raise CheckpointError(f"{self.folder}: it was replaced while it was being opened")
