"""The list of a repository's files that the Hub gives: names, sizes and hashes, checked."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..params.errors import quoted
from ..params.formats import is_plain
from .errors import HubError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file of a repository: its size, and the hash that its bytes have."""

    size: int
    sha256: str | None
    git_sha1: str | None

    def matches(self, path: str) -> bool:
        """Tells whether the file at `path` has this size and hash."""
        if os.path.getsize(path) != self.size:
            return False
        with open(path, "rb", buffering=0) as file:
            return self._has_hash_of(iter(lambda: file.read(1 << 20), b""))

    def matches_bytes(self, data: bytes) -> bool:
        """Tells whether `data` has this size and hash."""
        return len(data) == self.size and self._has_hash_of([data])

    def _has_hash_of(self, blocks: Iterable[bytes]) -> bool:
        start = b"" if self.sha256 else b"blob %d\0" % self.size  # as git hashes what it holds
        digest = hashlib.new("sha256" if self.sha256 else "sha1", start, usedforsecurity=False)
        for block in blocks:
            digest.update(block)
        return digest.hexdigest() == (self.sha256 or self.git_sha1)


def entries_of(name: str, info: "ModelInfo") -> dict[str, Entry]:
    """Reads what the Hub says is in a repository, of which nothing is believed unchecked.

    Raises:
        HubError: names, sizes or hashes that can be none.
    """
    entries = {}
    for file in info.siblings or []:
        path = file.rfilename
        if not isinstance(path, str) or not is_plain(path):
            raise HubError(
                f"{name}: lists {quoted(path)}, which is not the name of a file in a folder; "
                "this is not a repository to be trusted"
            )
        if path in entries:
            raise HubError(f"{name}: lists {quoted(path)} twice")
        entries[path] = _entry(name, file)
    for path in entries:
        folder = path.rpartition("/")[0]
        while folder:
            if folder in entries:
                raise HubError(f"{name}: lists {quoted(folder)} as a file and as a folder")
            folder = folder.rpartition("/")[0]
    return entries


def _entry(name: str, file: "RepoSibling") -> Entry:
    large = getattr(file.lfs, "sha256", None)
    digest, pattern = (file.blob_id, COMMIT) if large is None else (large, _SHA256)
    if type(file.size) is not int or not 0 <= file.size < 1 << 63:
        raise HubError(f"{name}: says that {file.rfilename} has {quoted(file.size)} bytes")
    if not isinstance(digest, str) or not pattern.fullmatch(digest):
        raise HubError(
            f"{name}: says that the hash of {file.rfilename} is {quoted(digest)}, which is none"
        )
    return Entry(file.size, large, None if large else digest)
