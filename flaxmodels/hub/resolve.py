"""Resolving a name: a folder, a file, a repository, or an address -> the location of a
checkpoint."""

import contextlib
import dataclasses
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Unpack

from .. import params as fp
from ..documents.json_files import CONFIG_NAME, MAX_CONFIG_BYTES
from ..documents.json_values import ConfigError
from ..params.adapters.peft.config import CONFIG_NAME as ADAPTER_NAME
from ..params.errors import quoted, warn
from ..params.formats import (
    LOCAL,
    FolderFile,
    Reads,
    Store,
    check_size,
    is_plain,
    is_weights_file,
    main_files,
    without_config,
)
from ..params.formats.checksums import MANIFEST
from .companions import companions, is_tokenizer_file
from .downloads import RepositoryStore
from .errors import HubError, scrubbed
from .name_or_path import Address, checked_name, is_a_path, no_such_path, parse_address
from .options import DEFAULT_OPTIONS, HubKeywords, HubOptions
from .remote import RemoteStore
from .repository import Repository, check_name, commit_of, find, remember
from .session import proxied

_WITH_CONFIG = ".gguf"  # a file that holds its configuration
_SIDE_FILES = {  # {name: bytes that it has at most}
    CONFIG_NAME: MAX_CONFIG_BYTES,
    ADAPTER_NAME: MAX_CONFIG_BYTES,
    "generation_config.json": MAX_CONFIG_BYTES,
    MANIFEST: 2 * MAX_CONFIG_BYTES,
}


@dataclasses.dataclass(frozen=True)
class Location:
    """Where a checkpoint is.

    Attributes:
        path: the folder, or the weights file; of a remote one, where the disk has it once it is
            downloaded. The configuration is there already.
        store: opens its files.
        revision: the commit that they are of, where they come from the Hub.
        note: added to errors, where files may be absent.
    """

    path: str
    store: Store = LOCAL
    revision: str | None = None
    note: str = ""

    @property
    def folder(self) -> str:
        """Where the configuration is."""
        return self.path if self.store.is_folder(self.path) else os.path.dirname(self.path)

    @property
    def has_config(self) -> bool:
        """Whether there is a `config.json`."""
        return self.store.exists(os.path.join(self.folder, CONFIG_NAME))

    @property
    def has_weights(self) -> bool:
        """Whether there is a checkpoint's file under one of the usual names."""
        return any(self.store.exists(os.path.join(self.folder, name)) for name in main_files())

    def open(self, **options: Any) -> fp.Source:
        """Opens the checkpoint's source; arguments as `fp.open_checkpoint`."""
        with self.noting():
            return fp.open_checkpoint(self.path, store=self.store, **options)

    def file(self, name: str) -> "Location":
        """Returns the location of a file of weights in the folder.

        Raises:
            CheckpointError: there is none, or the name leads out of the folder.
        """
        path = os.path.join(self.folder, name)
        if not is_plain(name) or not self.store.exists(path):
            raise fp.CheckpointError(f"{self.folder}: no file {quoted(name)} in it")
        return dataclasses.replace(self, path=path, note="")

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Adds the note to errors that are raised inside."""
        try:
            yield
        except (ConfigError, fp.CheckpointError) as error:
            if not self.note or isinstance(error, HubError):
                raise
            raise type(error)(f"{error}; {self.note}") from None

    def fetch(self, paths: Sequence[str]) -> None:
        """Downloads files of a repository that are not on this machine; others are read where they
        are."""
        if isinstance(self.store, RepositoryStore):
            self.store.expect([path for path in paths if not os.path.exists(path)], Reads.PATH)

    def download(self, source: fp.Source) -> None:
        """Downloads all files of an opened source."""
        self.fetch([file.path for file in source.files])


def resolve(
    name_or_path: "str | os.PathLike | Location",
    options: HubOptions = DEFAULT_OPTIONS,
    *,
    agree: Callable[[Callable[[], str]], str] | None = None,
) -> Location:
    """Finds a checkpoint and fetches its configuration; weights are fetched when they are read.

    Args:
        name_or_path: a folder or file; the name of a repository; the address of a repository, of a
            file in one, or of a folder or file on a web server or an object store.
        agree: see `flaxmodels.hub.repository.find`.

    Raises:
        CheckpointError: neither a folder nor anything that can be reached.
    """
    if isinstance(name_or_path, Location):
        return name_or_path
    name, subfolder = checked_name(name_or_path), options.subfolder
    if subfolder and not is_plain(subfolder):
        raise fp.CheckpointError(
            f"{scrubbed(name)}: {quoted(subfolder)} is not a folder of a repository, nor inside of "
            "a folder"
        )
    path = os.path.join(name, subfolder) if subfolder else name
    if os.path.exists(path) or os.path.exists(f"{path}.index"):  # of a TensorFlow checkpoint
        commit = commit_of(path)
        if options.revision not in ("main", "", commit):
            warn(
                f"{path} is on this machine, and has no revisions: {quoted(options.revision)} is "
                "not looked for"
            )
        return Location(path, revision=commit)
    address = parse_address(name)
    if "://" in name and address is None:
        if options.local_files_only:
            raise fp.CheckpointError(
                f"{scrubbed(name)}: not on this machine, and local_files_only is set"
            )
        with proxied(options.proxies):
            return _at_address(f"{name.rstrip('/')}/{subfolder}" if subfolder else name)
    if address is not None:
        return _on_hub(address, options, agree)
    if os.path.exists(name) or is_a_path(name):
        raise HubError(no_such_path(name, path))
    return _on_hub(Address(name), options, agree, could_be_path=True)


def fetched(location: Location, weights: Mapping[str, object] | None = None) -> Location:
    """Downloads a checkpoint of the Hub, whole and with its tokenizer; any other stays where it is.

    Args:
        weights: which, as `fp.open_checkpoint`.

    Raises:
        TypeError: another keyword than those.
    """
    known = [*inspect.signature(fp.open_checkpoint).parameters][1:]
    if odd := sorted({*(weights or ())} - {*known}):
        raise TypeError(f"weights does not take {', '.join(odd)}; it takes {', '.join(known)}")
    if not isinstance(location.store, RepositoryStore):
        return location
    companions(location.folder, location.store)
    location.download(location.open(**(weights or {})))
    return Location(location.path, revision=location.revision)


def tokenizer_files(
    name_or_path: "str | os.PathLike | Location", options: HubOptions = DEFAULT_OPTIONS
) -> list[FolderFile]:
    """Downloads the companions of a tokenizer or a processor, and no weights.

    Raises:
        CheckpointError: as `resolve`; or there are none.
    """
    location = resolve(name_or_path, options)
    files = companions(location.folder, location.store)
    if not any(is_tokenizer_file(file.name) for file in files):
        hint = "; that of a GGUF file is not read: take that of the model which it was made of"
        raise fp.CheckpointError(
            f"{location.path}: no files of a tokenizer or a processor there"
            + (hint if location.path.endswith(_WITH_CONFIG) else "")
        )
    return files


def download(
    name_or_path: str | os.PathLike,
    *,
    weights: Mapping[str, object] | None = None,
    **options: Unpack[HubKeywords],
) -> str:
    """Fetches a checkpoint whole, with its tokenizer -> the folder (or file) where it is.

    Args:
        weights: which, as `fp.open_checkpoint`: use_safetensors, framework, variant.
        **options: subfolder, revision, token, cache_dir, local_files_only, force_download, proxies,
            progress (`flaxmodels.hub.HubOptions`).

    Raises:
        CheckpointError: not found; or at an address whose files are read in place.
    """
    given = {**options}
    hub_options = HubOptions.take_from(given)
    if given:
        raise TypeError(f"download does not take {', '.join(given)}")
    location = resolve(name_or_path, hub_options)
    if isinstance(location.store, RemoteStore):
        raise fp.CheckpointError(
            f"{scrubbed(location.store.url)}: not a repository; its weights are read where they are"
        )
    return fetched(location, weights).path


def _on_hub(
    address: Address,
    options: HubOptions,
    agree: Callable[[Callable[[], str]], str] | None,
    *,
    could_be_path: bool = False,
) -> Location:
    name, revision = address.repo_id, address.revision or options.revision
    if options.revision not in ("main", revision):
        raise fp.CheckpointError(
            f"{name}: the address names revision {quoted(revision)}, and revision is "
            f"{quoted(options.revision)}; give one"
        )
    inside = "/".join(filter(None, (address.path, options.subfolder)))
    if inside and not is_plain(inside):
        raise fp.CheckpointError(f"{name}: {quoted(inside)} is not a folder of a repository")
    check_name(name, revision)
    with proxied(options.proxies):
        try:
            repository = find(name, dataclasses.replace(options, revision=revision), agree=agree)
        except HubError as error:
            if not could_be_path:
                raise
            message = f"there is no folder or file {quoted(name)} here, and on the Hub: {error}"
            raise HubError(message, may_pass=error.may_pass) from None
        if isinstance(repository, Repository):
            return _in_repository(repository, revision, inside, options.progress)
    path = os.path.join(repository, inside) if inside else repository
    note = (
        "the cache does not have all of it, and the Hub may not be asked, or does not answer: "
        "load it once with a network"
    )
    return Location(path, revision=commit_of(repository), note=note)


def _in_repository(repository: Repository, revision: str, inside: str, progress: bool) -> Location:
    store = RepositoryStore(repository, progress=progress)
    path = repository.path(inside) if inside else repository.folder
    if not store.exists(path) and not store.exists(f"{path}.index"):
        raise HubError(f"{repository}: the repository has no {inside}")
    folder = path if store.is_folder(path) else os.path.dirname(path)
    limits = {os.path.join(folder, name): limit for name, limit in _SIDE_FILES.items()}
    limits = {file: limit for file, limit in limits.items() if store.exists(file)}
    for file, limit in limits.items():
        if (name := store.file(file)) in repository.entries:
            check_size(f"{repository}, {name}", repository.entries[name].size, limit)
    store.expect([*limits], Reads.PATH)
    remember(repository, revision)
    name = "/".join(filter(None, (str(repository), store.file(folder))))
    note = _lacks_config(name, path, folder, store) or f"it is of {name}"
    return Location(path, store, repository.commit, note)


def _at_address(url: str) -> Location:
    base, _, last = url.rstrip("/").rpartition("/")
    is_file = is_weights_file(last)
    store = RemoteStore(base if is_file else url)
    for name, limit in _SIDE_FILES.items():
        path = os.path.join(store.folder, name)
        if store.exists(path):
            store.copy(path, limit)
    note = _lacks_config(scrubbed(store.url), last, store.folder, store)
    path = os.path.join(store.folder, last) if is_file else store.folder
    return Location(path, store, note=note)


def _lacks_config(name: str, path: str, folder: str, store: Store) -> str:
    """Returns what to say where there is no configuration of a model, or of an adapter; else ""."""
    there = (store.exists(os.path.join(folder, file)) for file in (CONFIG_NAME, ADAPTER_NAME))
    if path.endswith(_WITH_CONFIG) or any(there):
        return ""
    return f"{name} has no {CONFIG_NAME}: {without_config(folder, store)}"
