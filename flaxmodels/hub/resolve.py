"""From a name to where its files are: a folder, a file, a repository, an address."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from .. import params as fp
from ..documents.files import CONFIG_NAME
from ..documents.values import MAX_CONFIG_BYTES, ConfigError
from .client import HubError, endpoint, proxied, scrubbed
from .companions import companions, is_tokenizer_file
from .downloads import Arriving
from .paths import is_a_path, no_such_path
from .remote import Elsewhere
from .repository import Repository, check_name, commit_of, find, remember

PLACES = frozenset(
    "subfolder revision token cache_dir local_files_only force_download proxies progress".split()
)
"""The keywords of `resolve` that a user may give."""
_SIDE_FILES = {  # {name: bytes that it has at most}
    CONFIG_NAME: MAX_CONFIG_BYTES,
    "generation_config.json": MAX_CONFIG_BYTES,
    fp.MANIFEST: 2 * MAX_CONFIG_BYTES,
}
_PUBLIC = ("huggingface.co", "www.huggingface.co", "hf.co")
_VERBS = ("resolve", "blob", "raw", "tree")
_REVISION = "(refs/[^/]+/[^/]+|[^/]+)"  # other slashes are quoted


@dataclasses.dataclass(frozen=True)
class Found:
    """Where a checkpoint is.

    Attributes:
        path: the folder, or the weights file; of what is elsewhere, where the disk has it once it
            is here. The configuration is there already.
        store: how its files are opened.
        revision: the commit that they are of, where they come from the Hub.
        note: what to add to an error, where not everything may be there.
    """

    path: str
    store: Any = fp.LOCAL
    revision: str | None = None
    note: str = ""

    @property
    def folder(self) -> str:
        """Where the configuration is."""
        return self.path if self.store.is_folder(self.path) else os.path.dirname(self.path)

    def open(self, **how: Any) -> fp.Source:
        """The checkpoint's source; arguments as `fp.open_checkpoint`."""
        with self.noting():
            return fp.open_checkpoint(self.path, store=self.store, **how)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Adds the note to errors of what is read meanwhile."""
        try:
            yield
        except (ConfigError, fp.CheckpointError) as error:
            if not self.note or isinstance(error, HubError):
                raise
            raise type(error)(f"{error}; {self.note}") from None

    def bring(self, source: fp.Source) -> None:
        """Has all files of an opened source on the disk."""
        if isinstance(self.store, Arriving):
            self.store.bring([file.path for file in source.files if not os.path.exists(file.path)])


def resolve(
    name_or_path: "str | os.PathLike | Found",
    *,
    subfolder: str = "",
    revision: str = "main",
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    proxies: Mapping[str, str] | None = None,
    progress: bool = True,
    agree: Callable[[Callable[[], str]], str] | None = None,
) -> Found:
    """Where a checkpoint is; its configuration is fetched, its weights are not until they are read.

    Args:
        name_or_path: a folder or file; the name of a repository; the address of a repository, of a
            file in one, or of a folder or file on a web server or an object store.
        force_download: fetch again what is in the cache.
        proxies: as `flaxmodels.hub.client.proxied`.
        progress: show a bar if a download takes longer than a second.
        agree: see `flaxmodels.hub.repository.find`.

    Raises:
        CheckpointError: neither a folder nor anything that can be reached.
    """
    if isinstance(name_or_path, Found):
        return name_or_path
    name = os.fspath(name_or_path)
    path = os.path.join(name, subfolder) if subfolder else name
    if os.path.exists(path) or os.path.exists(f"{path}.index"):  # of a TensorFlow checkpoint
        return Found(path, revision=commit_of(path))
    address = _of_repository(name)
    if "://" in name and address is None:
        if local_files_only:
            raise fp.CheckpointError(
                f"{scrubbed(name)}: not on this machine, and local_files_only is set"
            )
        with proxied(proxies):
            return _elsewhere(f"{name.rstrip('/')}/{subfolder}" if subfolder else name)
    if address is None and (os.path.exists(name) or is_a_path(name)):
        raise HubError(no_such_path(name, path))
    repo, at, inside = address or (name, None, "")
    inside = "/".join(filter(None, (inside, subfolder)))
    if inside and not fp.is_plain(inside):
        raise fp.CheckpointError(f"{name}: {fp.quoted(inside)} is not a folder of a repository")
    check_name(repo, at or revision)
    with proxied(proxies):
        try:
            repository = find(
                repo,
                revision=at or revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                force_download=force_download,
                agree=agree,
            )
        except HubError as error:
            if address is not None:
                raise
            said = f"there is no folder or file {fp.quoted(name)} here, and on the Hub: {error}"
            raise HubError(said, may_pass=error.may_pass) from None
        return _in_repository(repository, at or revision, inside, progress)


def fetched(found: Found, how: Mapping[str, Any] | None = None) -> Found:
    """A checkpoint of the Hub on the disk, whole and with its tokenizer; any other as it is.

    Args:
        how: which weights, as `fp.open_checkpoint`.
    """
    if not isinstance(found.store, Arriving):
        return found
    companions(found.folder, found.store)
    found.bring(found.open(**(how or {})))
    return Found(found.path, revision=found.revision)


def tokenizer_files(name_or_path: "str | os.PathLike | Found", **where: Any) -> list[fp.FolderFile]:
    """The companions of a tokenizer or a processor, on the disk, and no weights.

    Args:
        **where: as `resolve`.

    Raises:
        CheckpointError: as `resolve`; or there are none.
    """
    found = resolve(name_or_path, **where)
    files = companions(found.folder, found.store)
    if not any(is_tokenizer_file(file.name) for file in files):
        raise fp.CheckpointError(f"{name_or_path}: no files of a tokenizer or a processor there")
    return files


def download(
    name_or_path: str | os.PathLike, *, weights: Mapping[str, Any] | None = None, **where: Any
) -> str:
    """Fetches a checkpoint whole, with its tokenizer -> the folder (or file) where it is.

    Args:
        weights: which, as `fp.open_checkpoint`: use_safetensors, framework, variant.
        **where: as `resolve`.

    Raises:
        CheckpointError: as `resolve`; or it is at an address whose files are read in place.
    """
    found = resolve(name_or_path, **where)
    if isinstance(found.store, Elsewhere):
        raise fp.CheckpointError(
            f"{scrubbed(found.store.url)}: not a repository; its weights are read where they are"
        )
    return fetched(found, weights).path


def _in_repository(
    repository: Repository | str, revision: str, inside: str, progress: bool
) -> Found:
    if isinstance(repository, str):
        path = os.path.join(repository, inside) if inside else repository
        note = (
            "the cache does not have all of it, and the Hub may not be asked, or does not answer: "
            "load it once with a network"
        )
        return Found(path, revision=commit_of(repository), note=note)
    store = Arriving(repository, progress=progress)
    path = repository.path(inside) if inside else repository.folder
    if not store.exists(path) and not store.exists(f"{path}.index"):
        raise HubError(f"{repository}: the repository has no {inside}")
    folder = path if store.is_folder(path) else os.path.dirname(path)
    side = {os.path.join(folder, name): most for name, most in _SIDE_FILES.items()}
    side = {file: most for file, most in side.items() if store.exists(file)}
    for name, most in ((store.file(file), most) for file, most in side.items()):
        if name in repository.entries:
            fp.check_size(f"{repository}, {name}", repository.entries[name].size, most)
    store.bring([*side])
    remember(repository, revision)
    has_config = store.exists(os.path.join(folder, CONFIG_NAME))
    where = "/".join(filter(None, (str(repository), store.file(folder))))
    note = f"it is of {where}" if has_config else _lacks_config(where, folder, store)
    return Found(path, store, repository.commit, note)


def _lacks_config(where: str, folder: str, store: fp.Store) -> str:
    return f"{where} has no {CONFIG_NAME}: {fp.without_config(folder, store)}"


def _elsewhere(url: str) -> Found:
    base, _, last = url.rstrip("/").rpartition("/")
    is_file = fp.is_weights_file(last)
    store = Elsewhere(base if is_file else url)
    for name, most in _SIDE_FILES.items():
        path = os.path.join(store.folder, name)
        if store.exists(path):
            store.copy(path, most)
    has_config = store.exists(os.path.join(store.folder, CONFIG_NAME))
    note = "" if has_config else _lacks_config(scrubbed(store.url), store.folder, store)
    path = os.path.join(store.folder, last) if is_file else store.folder
    return Found(path, store, note=note)


def _of_repository(name: str) -> tuple[str, str | None, str] | None:
    """(repository, revision, path in it) of an address on the Hub; None for any other name."""
    if name.startswith("hf://"):
        match = re.fullmatch(
            rf"([^/@]+/[^/@]+)(?:@{_REVISION})?(?:/(.*?))?/?", name[len("hf://") :]
        )
        if match is None:
            raise fp.CheckpointError(f"{name}: expected hf://organisation/name@REVISION/FOLDER")
        return unquote(match[1]), match[2] and unquote(match[2]), unquote(match[3] or "")
    address, here = urlsplit(name), urlsplit(endpoint())
    if address.scheme not in ("http", "https"):
        return None
    if address.netloc not in _PUBLIC and (address.scheme, address.netloc) != here[:2]:
        return None
    parts = [part for part in address.path.split("/") if part]
    repository, verb, rest = "/".join(map(unquote, parts[:2])), parts[2:3], "/".join(parts[3:])
    match = re.fullmatch(rf"{_REVISION}(?:/(.*))?", rest) if verb and verb[0] in _VERBS else None
    if match is not None:
        return repository, unquote(match[1]), unquote(match[2] or "")
    if len(parts) != 2:
        raise fp.CheckpointError(
            f"{scrubbed(name)}: expected {endpoint()}/organisation/name, or "
            ".../resolve/REVISION/FILE"
        )
    return repository, None, ""
