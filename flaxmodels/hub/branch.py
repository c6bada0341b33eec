"""The branch of a repository on the Hub that gets a commit, and the files on their way into it."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from ..params.errors import some
from ..params.scalars import flag
from .client import api, attempt, endpoint, is_offline, status_of
from .errors import HubError
from .listing import COMMIT
from .options import HubOptions
from .repository import Repository, check_name, find

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete

Operation: TypeAlias = "CommitOperationAdd | CommitOperationDelete"

_PUBLIC = (".gitattributes", ".gitignore")
_TOKENS = ("token", "stored_tokens")
_UPLOADS = 2  # tries, each of five of the client's
_NEWEST = 3  # pull requests among which one of ours is looked for


class Message(TypedDict):
    """What a commit says, as keywords of the client."""

    commit_message: str
    commit_description: str


class Branch:
    """A branch, or a pull request to be opened against it; the repository is made if absent.

    Attributes:
        name: "namespace/name" of the repository.
        head: the repository at the commit that the next one is to follow.

    Raises:
        HubError: as every method.
    """

    def __init__(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        revision: str | None = None,
    ):
        self.revision = "main" if revision is None else revision
        check_name(repo_id, self.revision)
        private = None if private is None else flag("private", private)
        self._token = _checked(repo_id, token)
        self._api = api(self._token)
        self._create_pr = create_pr is not None and flag("create_pr", create_pr)
        created = attempt(
            repo_id, lambda: self._api.create_repo(repo_id, private=private, exist_ok=True)
        )
        self.name: str = created.repo_id
        self._is_new = not self._exists()
        self.head = self._find("main" if self._is_new else self.revision)

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}, revision {self.revision}"

    def upload(self, operations: "list[CommitOperationAdd]") -> None:
        """Uploads those of the client's `CommitOperationAdd` that are large."""
        names = [operation.path_in_repo for operation in operations]
        attempt(
            f"{self}, {some(names)}",
            lambda: self._api.preupload_lfs_files(
                self.name,
                operations,
                revision=None if self._is_new else self.revision,
                create_pr=self._create_pr,
            ),
            tries=_UPLOADS,
        )
        for operation in operations:
            if operation._should_ignore:  # the client would leave it out silently
                raise HubError(
                    f"{self}, {operation.path_in_repo}: the repository's .gitignore leaves it "
                    "out; change that first"
                )

    def create(self) -> None:
        """Creates the branch from main, unless it is there."""
        if self._is_new:
            attempt(
                str(self),
                lambda: self._api.create_branch(
                    self.name, branch=self.revision, revision=self.head.commit, exist_ok=True
                ),
            )
            self._is_new = False

    def refresh(self) -> None:
        """Finds the branch's head again."""
        self.head = self._find(self.revision)

    def post(self, operations: "list[Operation]", message: Message) -> "CommitInfo | None":
        """Tries to commit on top of the head -> None where the branch has moved."""

        def call() -> "CommitInfo | None":
            try:
                return self._api.create_commit(
                    self.name,
                    operations,
                    revision=self.revision,
                    parent_commit=self.head.commit,
                    create_pr=self._create_pr,
                    **message,
                )
            except Exception as error:  # of the client or of its transport
                if status_of(error) in (409, 412):
                    return None
                raise

        return attempt(str(self), call, tries=1)

    def next(self) -> tuple[Repository, str] | None:
        """Finds the commit after the head -> (the repository at it, the branch or pull request)."""
        for ref in self._pull_requests() if self._create_pr else [self.revision]:
            log = attempt(
                str(self), lambda ref=ref: self._api.list_repo_commits(self.name, revision=ref)
            )
            oids = [commit.commit_id for commit in log]
            if self.head.commit in oids[1:]:
                return self._find(oids[oids.index(self.head.commit) - 1]), ref
        return None

    def info(self, oid: str, message: Message, ref: str | None = None) -> "CommitInfo":
        """Makes the client's description of a commit."""
        from huggingface_hub import CommitInfo

        number = ref.removeprefix("refs/pr/") if ref and self._create_pr else None
        return CommitInfo(
            oid=oid,
            commit_url=f"{self.url}/commit/{oid}",
            **message,
            pr_url=number and f"{self.url}/discussions/{number}",
        )

    @property
    def url(self) -> str:
        return f"{endpoint()}/{self.name}"

    def _find(self, revision: str) -> Repository:
        options = HubOptions(revision=revision, token=self._token, force_download=True)
        repository = find(self.name, options)
        assert isinstance(repository, Repository)  # never what the cache has
        return repository

    def _exists(self) -> bool:
        if self.revision == "main" or self.revision.startswith("refs/"):
            return True
        refs = attempt(self.name, lambda: self._api.list_repo_refs(self.name))
        if self.revision in [ref.name for ref in refs.branches]:
            return True
        is_tag = self.revision in [ref.name for ref in refs.tags]
        if is_tag or COMMIT.fullmatch(self.revision):
            kind = "a tag" if is_tag else "a commit"
            raise HubError(f"{self}: {kind}; give a branch, nothing else can be pushed to")
        return False

    def _pull_requests(self) -> list[str]:
        """Lists the newest pull requests, newest first."""
        refs = attempt(
            self.name,
            lambda: self._api.list_repo_refs(self.name, include_pull_requests=True).pull_requests,
        )
        numbers = sorted(
            (int(ref.ref.removeprefix("refs/pr/")) for ref in refs or ()), reverse=True
        )
        return [f"refs/pr/{number}" for number in numbers[:_NEWEST]]


def _checked(repo_id: str, token: str | bool | None) -> str | bool:
    """Returns the token, True for the stored login; raises `HubError` where nobody is logged in, or
    the Hub may not be asked."""
    from huggingface_hub import get_token

    if is_offline():
        raise HubError(f"{repo_id}: HF_HUB_OFFLINE is set, so nothing can be pushed; unset it")
    if token in (None, True) and not get_token():
        raise HubError(
            f"{repo_id}: nobody is logged in; log in with `hf auth login`, set HF_TOKEN, or give "
            "token"
        )
    return True if token is None else token


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
