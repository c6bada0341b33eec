"""A Hub on this machine, for tests: model repositories in memory behind the real Hub's protocol.

    with LoopbackHub() as hub:
        commit = hub.commit("org/name", {"config.json": b"{}", "model.safetensors": data})
        HfApi(endpoint=hub.endpoint).model_info("org/name").sha == commit

It speaks what huggingface_hub 2.4.0 speaks without Xet (`reads.py`, `writes.py`), serves
large files from a second origin as the real one does, records every request, and misbehaves on
demand (`hub.fault(Fault("reset", port="cdn", after=100))`, `faults.py`). The fixture `hub` of
`client.py` points the client of this process at one.

Like the real one it begins a repository that `create_repo` makes with a commit of .gitattributes,
and its store refuses a request that bears a token.
"""

import dataclasses
import fnmatch
import functools
import hashlib
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from loopback import api, reads, writes  # noqa: F401  the latter two add their routes
from loopback.faults import Fault
from loopback.server import Answer, Request, Server

__all__ = ["Commit", "Fault", "File", "LoopbackHub", "Repo", "Request"]

LFS_SUFFIXES = (".safetensors", ".msgpack", ".bin", ".h5")


@dataclasses.dataclass(frozen=True)
class File:
    data: bytes = dataclasses.field(repr=False)
    lfs: bool

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @functools.cached_property
    def pointer(self) -> bytes:
        """What git holds of a large file."""
        version = "version https://git-lfs.github.com/spec/v1"
        return f"{version}\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @functools.cached_property
    def blob(self) -> str:
        """Git's name for what git holds."""
        held = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob


@dataclasses.dataclass(frozen=True)
class Commit:
    oid: str
    summary: str
    description: str
    parent: str | None
    files: dict[str, File] = dataclasses.field(repr=False)


@dataclasses.dataclass
class Repo:
    """A repository, or the lack of one; a test may set any of this."""

    name: str
    exists: bool = False
    private: bool = False
    gated: bool | str = False  # or "auto", "manual"
    allowed: set[str] = dataclasses.field(default_factory=set)  # tokens that pass the gate
    refs: dict[str, str] = dataclasses.field(default_factory=dict)  # "refs/heads/main" -> oid
    commits: dict[str, Commit] = dataclasses.field(default_factory=dict, repr=False)

    def ref(self, revision: str) -> str:
        """The full name of a branch, or of a ref that is full already."""
        return revision if revision.startswith("refs/") else f"refs/heads/{revision}"

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, tag, ref, hash, or hash's beginning."""
        for ref in (self.ref(revision), f"refs/tags/{revision}"):
            if ref in self.refs:
                return self.commits[self.refs[ref]]
        found = [oid for oid in self.commits if oid.startswith(revision) and len(revision) > 6]
        return self.commits[found[0]] if len(found) == 1 else None

    def log(self, revision: str) -> list[Commit]:
        """Newest first."""
        commit, log = self.find(revision), []
        while commit is not None:
            log.append(commit)
            commit = self.commits[commit.parent] if commit.parent else None
        return log

    def add(
        self, ref: str, parent: str | None, files: dict[str, File], summary: str, description: str
    ) -> Commit:
        """A new commit with exactly these files, to which `ref` moves."""
        listing = [f"{path} {file.blob}" for path, file in sorted(files.items())]
        # The count tells apart commits that are alike, as their times do in git.
        what = [self.name, str(len(self.commits)), str(parent), summary, description, *listing]
        oid = hashlib.sha1("\n".join(what).encode()).hexdigest()
        self.commits[oid] = Commit(oid, summary, description, parent, files)
        self.refs[ref] = oid
        return self.commits[oid]


class Requests(list[Request]):
    """All requests, oldest first."""

    def of(
        self, method: str | None = None, path: str = "*", port: str | None = None
    ) -> list[Request]:
        """Those that match, as a `Fault` matches."""
        return [
            request
            for request in self
            if method in (None, request.method)
            and port in (None, request.port)
            and (fnmatch.fnmatchcase(request.path, path) or fnmatch.fnmatchcase(request.name, path))
        ]


class LoopbackHub:
    """Two servers on loopback ports: `endpoint`, the Hub, and `cdn`, where large files lie.

    Attributes:
        requests: what came, to be looked at or cleared.
        faults: what is to go wrong; see `fault`.
        tokens: who may "read" and "write"; None: anyone, without a token.
        rate: bytes a second for the bodies of GET, of all connections of one port together.
        lfs_threshold: the size from which a file is large; weights are at any size.
        multipart: the size of parts in which large files are to be uploaded; None: in one.
        redirects: whether small files are elsewhere on the Hub, too (status 307), as those of the
            real Hub are unless private, gated or empty.
        page: entries on a page of a tree's listing.
        errors: of the Hub itself, or of a hook; the first is raised on exit.
        waits: seconds that the client of the fixture `hub` would have slept between tries.
    """

    def __init__(self) -> None:
        self.requests = Requests()
        self.faults: list[Fault] = []
        self.tokens: dict[str, str] | None = {"hf_write": "write", "hf_read": "read"}
        self.rate: float | None = None
        self.lfs_threshold = 1024
        self.multipart: int | None = None
        self.redirects = False
        self.page = 1000
        self.errors: list[Exception] = []
        self.waits: list[float] = []
        self.objects: dict[str, bytes] = {}  # large files by sha256, committed or only uploaded
        self.parts: dict[tuple[str, int], bytes] = {}
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self._repos: dict[str, Repo] = {}
        self._servers = Server.of(self, "hub"), Server.of(self, "cdn")
        self.endpoint, self.cdn = (server.url for server in self._servers)

    def __enter__(self) -> "LoopbackHub":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if not self.stopping.is_set():
            self.stopping.set()
            for server in self._servers:
                server.release()
        if self.errors and kind is None:
            raise AssertionError("the loopback Hub failed") from self.errors[0]

    def stop(self) -> None:
        """Connections are ended and refused from now on; what the Hub holds can still be seen."""
        if not self.stopping.is_set():
            self.stopping.set()
            for server in self._servers:
                server.stop()

    def fault(self, fault: Fault) -> Fault:
        """From now on, until its times are over."""
        self.faults.append(fault)
        return fault

    def repo(self, name: str) -> Repo:
        with self.lock:
            return self._repos.setdefault(name, Repo(name))

    def commit(
        self,
        name: str,
        files: Mapping[str, bytes],
        revision: str = "main",
        delete: Iterable[str] = (),
        summary: str = "Upload",
    ) -> str:
        """Puts a commit with `files` changed and `delete` gone on a branch -> its hash.

        A repository or branch that does not exist is made; the branch begins as main is.
        """
        with self.lock:
            repo = self.repo(name)
            repo.exists = True
            below = repo.find(repo.ref(revision)) or repo.find("main")
            whole = dict(below.files) if below else {}
            for path in delete:
                del whole[path]
            whole |= {path: self.file(path, data) for path, data in files.items()}
            parent = below.oid if below else None
            return repo.add(repo.ref(revision), parent, whole, summary, "").oid

    def file(self, path: str, data: bytes) -> File:
        """Large or not, as the path and the size say."""
        file = File(data, self.is_large(path, len(data)))
        if file.lfs:
            self.objects[file.sha256] = data
        return file

    def small_file(self, data: bytes) -> File:
        return File(data, lfs=False)

    def large_file(self, sha256: str) -> File:
        return File(self.objects[sha256], lfs=True)

    def is_large(self, path: str, size: int) -> bool:
        return size > 0 and (size >= self.lfs_threshold or path.endswith(LFS_SUFFIXES))

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        return {path: file.data for path, file in self._at(name, revision).files.items()}

    def head(self, name: str, revision: str = "main") -> str:
        return self._at(name, revision).oid

    def history(self, name: str, revision: str = "main") -> list[Commit]:
        """Newest first."""
        with self.lock:
            return self.repo(name).log(revision)

    def _at(self, name: str, revision: str) -> Commit:
        with self.lock:
            commit = self.repo(name).find(revision)
        if commit is None:
            raise KeyError(f"{name} has no revision {revision}")
        return commit

    def answer(self, request: Request) -> Answer:
        proceed = functools.partial(api.handle, self, request)
        for fault in [fault for fault in self.faults if fault.due(request)]:
            proceed = functools.partial(fault.answer, request, proceed)
        return proceed()
