"""Files on their way into a commit of the Hub."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .branch import Operation
from .repository import Repository

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

_PUBLIC = (".gitattributes", ".gitignore")
_TOKENS = ("token", "stored_tokens")


def is_private(name: str) -> bool:
    """Tells whether a file is likely to hold secrets: .env, .git/config, token."""
    parts = name.split("/")
    hidden = [part for part in parts if part.startswith(".") and part not in _PUBLIC]
    return bool(hidden) or parts[-1] in _TOKENS


@dataclasses.dataclass(frozen=True)
class PushedFile:
    """A file on its way into a commit: what the client does with it, and where it is here."""

    operation: "CommitOperationAdd"
    path: str

    @classmethod
    def of(cls, name: str, path: str | os.PathLike) -> "PushedFile":
        from huggingface_hub import CommitOperationAdd

        return cls(CommitOperationAdd(name, os.fspath(path)), os.fspath(path))

    @property
    def is_uploaded(self) -> bool:
        """Whether the Hub has its bytes: the client lets go of the path then."""
        return self.operation.path_or_fileobj == b""

    @property
    def sha256(self) -> str:
        if self.is_uploaded:
            return self.operation.upload_info.sha256.hex()
        return hashlib.sha256(Path(self.path).read_bytes()).hexdigest()

    def is_in(self, repository: Repository, name: str) -> bool:
        """Tells whether a repository has it already, under a name."""
        entry = repository.entries.get(name)
        if entry is None:
            return False
        return entry.sha256 == self.sha256 if self.is_uploaded else entry.matches(self.path)


def operations_of(changed: list[PushedFile], gone: list[str]) -> "list[Operation]":
    """Makes the client's operations of a commit: files that are changed, and names that go."""
    from huggingface_hub import CommitOperationDelete

    for file in changed:
        # The client leaves out what was in the branch when the file was uploaded; we have left out
        # what is in the head.
        file.operation._remote_oid = None
    deleted = [CommitOperationDelete(name, is_folder=False) for name in gone]
    return [*(file.operation for file in changed), *deleted]
