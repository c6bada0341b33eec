"""A repository of the Hub at one commit: what is in it, and its files in the client's cache."""

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..params.errors import quoted, warn
from ..params.formats import check_size, is_plain
from .client import api, attempt, cache_dir_of, endpoint, is_offline, read_range, timeout
from .errors import HubError, keep_secret
from .listing import COMMIT, Entry, entries_of
from .options import HubOptions

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo
    from tqdm import tqdm

_LARGEST_SMALL = 16 << 20  # bytes of a file that is read past the cache
_ABANDONED = 3600  # seconds since anything was written to a part of a file


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository at a commit.

    Attributes:
        name: "organisation/name".
        entries: {path in the repository: its size and hash}.
        folder: where the cache has, or will have, the files of this commit.
    """

    name: str
    commit: str
    entries: dict[str, Entry] = dataclasses.field(repr=False)
    folder: str
    cache_dir: str
    token: str | bool | None = dataclasses.field(default=None, repr=False)
    force_download: bool = False

    def __str__(self) -> str:
        return f"{self.name}@{self.commit[:12]}"

    def path(self, file: str) -> str:
        """Returns where the cache has, or will have, a file."""
        return os.path.join(self.folder, *file.split("/"))

    def has(self, file: str) -> bool:
        """Tells whether the cache has it, at its full size."""
        try:
            return os.path.getsize(self.path(file)) == self.entries[file].size
        except OSError:
            return False

    def read(self, file: str) -> bytes:
        """Reads a small file, past the cache.

        Raises:
            HubError: it cannot be had, or is not what the Hub says.
        """
        check_size(f"{self}, {file}", self.entries[file].size, _LARGEST_SMALL)
        data = self.read_range(file, 0, self.entries[file].size)
        if not self.entries[file].matches_bytes(data):
            raise HubError(f"{self}, {file}: what came is not what the Hub's hash says")
        return data

    def read_range(self, file: str, offset: int, count: int) -> bytes:
        """Reads `count` bytes of a file from `offset` on, past the cache."""
        import huggingface_hub as hub

        url = hub.hf_hub_url(self.name, file, revision=self.commit, endpoint=endpoint())
        headers = hub.utils.build_hf_headers(token=self.token, library_name="flaxmodels")
        return read_range(f"{self}, {file}", url, offset, count, headers)

    def fetch(self, file: str, *, report: "type[tqdm] | None" = None) -> str:
        """Downloads a file into the cache and compares its hash -> its path.

        Args:
            report: a class like tqdm, which gets the bytes as they come.

        Raises:
            HubError: it cannot be had, or is twice not what the Hub says.
        """
        import huggingface_hub as hub

        broken = os.path.lexists(self.path(file)) and not self.has(file)
        for again in (self.force_download or broken, True):
            path = attempt(
                f"{self}, {file}",
                lambda again=again: hub.hf_hub_download(
                    self.name,
                    file,
                    revision=self.commit,
                    cache_dir=self.cache_dir,
                    token=self.token,
                    endpoint=endpoint(),
                    force_download=again,
                    library_name="flaxmodels",
                    tqdm_class=report,
                ),
            )
            if self.entries[file].matches(path):
                _sweep(path)
                return path
            _remove(path)
        raise HubError(
            f"{self}, {file}: what came is not what the Hub's hash says, twice; it was removed "
            "from the cache. Something between here and the Hub changes files, or cuts them short"
        )


def find(
    name: str,
    options: HubOptions,
    *,
    agree: Callable[[Callable[[], str]], str] | None = None,
) -> Repository | str:
    """Returns the repository at the commit that the revision is now; or the folder of the cache
    with what there is of it, where the Hub may not be asked or does not answer.

    Args:
        agree: of several processes, lets one find the commit and gives it to the others.

    Raises:
        HubError: no such repository or revision, or it cannot be had.
    """
    revision, token = options.revision, options.token
    check_name(name, revision)
    keep_secret(token)
    cache = cache_dir_of(options.cache_dir)
    if options.local_files_only or is_offline():
        return _cached(name, revision, cache)
    try:
        if agree is not None:
            revision = agree(lambda: str(_info(name, revision, token).sha))
        info = _info(name, revision, token)
    except HubError as error:
        if not error.may_pass or options.force_download:
            raise
        try:
            folder = _cached(name, revision, cache)
        except HubError:
            raise error from None
        warn(f"{error}; what the cache has of {revision} is taken")
        return folder
    commit = str(info.sha)
    if not COMMIT.fullmatch(commit):
        raise HubError(f"{name}: {revision} is said to be commit {quoted(commit)}, no git hash")
    return Repository(
        name=name,
        commit=commit,
        entries=entries_of(name, info),
        folder=os.path.join(_home(name, cache), "snapshots", commit),
        cache_dir=cache,
        token=token,
        force_download=options.force_download,
    )


def remember(repository: Repository, revision: str) -> None:
    """Writes into the cache, if that can be done, which commit a branch or tag is."""
    if revision == repository.commit:
        return
    ref = Path(_home(repository.name, repository.cache_dir), "refs", *revision.split("/"))
    with contextlib.suppress(OSError):
        if ref.exists() and ref.read_bytes() == repository.commit.encode():
            return
        ref.parent.mkdir(parents=True, exist_ok=True)
        new = ref.with_name(f"{ref.name}.{os.getpid()}")
        new.write_text(repository.commit)
        new.replace(ref)


def commit_of(folder: str) -> str | None:
    """Returns the commit that a folder of the cache is a copy of."""
    match = re.search(r"/models--[^/]+/snapshots/([0-9a-f]{40})(?:/|$)", os.path.abspath(folder))
    return match[1] if match else None


def name_of(folder: str) -> str | None:
    """Returns the repository that a folder of the cache is a copy of."""
    match = re.search(r"/models--([^/]+)/snapshots/", f"{os.path.abspath(folder)}/")
    return match[1].replace("--", "/") if match else None


def _info(name: str, revision: str, token: str | bool | None) -> "ModelInfo":
    return attempt(
        f"{name}, revision {revision}",
        lambda: api(token).model_info(
            name, revision=revision, files_metadata=True, timeout=timeout()
        ),
    )


def check_name(name: str, revision: str = "main") -> None:
    """Raises `HubError` where there can be no such repository, or no such revision."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise HubError(f"{quoted(name)}: no such folder, nor a repository: {error}") from None
    if not isinstance(revision, str) or not is_plain(revision):
        raise HubError(f"{name}: {quoted(revision)} is not a branch, a tag or a commit")


def _cached(name: str, revision: str, cache: str) -> str:
    """Returns the folder that the cache has for a revision."""
    home = _home(name, cache)
    commit = revision
    if not COMMIT.fullmatch(revision):
        try:
            commit = Path(home, "refs", *revision.split("/")).read_text().strip()
        except (OSError, UnicodeDecodeError):
            commit = ""
    folder = os.path.join(home, "snapshots", commit)
    if not COMMIT.fullmatch(commit) or not os.path.isdir(folder):
        raise HubError(
            f"{name}, revision {revision}: not in the cache {cache}, and the Hub may not be asked "
            "(local_files_only, or HF_HUB_OFFLINE); load it once with a network"
        )
    return folder


def _home(name: str, cache: str) -> str:
    return os.path.join(cache, f"models--{name.replace('/', '--')}")


def _sweep(path: str) -> None:
    """Removes what processes that were killed have left of a file that is whole now."""
    blob = Path(os.path.realpath(path))
    for part in blob.parent.glob(f"{blob.name}.*.incomplete"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED:
                part.unlink()


def _remove(path: str) -> None:
    """Removes a file of the cache: the link, and the blob that it points to."""
    real = os.path.realpath(path)
    Path(path).unlink(missing_ok=True)
    if os.path.basename(os.path.dirname(real)) == "blobs":
        Path(real).unlink(missing_ok=True)
