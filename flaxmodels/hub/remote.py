"""Folders on object stores and plain web servers: read by ranges, no file is copied whole unless a
library wants it on the disk."""

import dataclasses
import importlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Protocol

from .. import params as fp
from ..params.formats import LOCAL, File, LocalFile, Reads, check_size
from .client import attempt, scrubbed, timeout
from .ranges import get

_AT_ONCE = 8
_BLOCK = 8 << 20  # bytes copied at a time
_MOST_UNSIZED = 16 << 30  # bytes of a file whose server gives neither ranges nor its length
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclasses.dataclass(frozen=True)
class _Known:
    """What is there: a folder, or a file; of one that comes only as a whole the size is not asked
    for."""

    size: int = 0
    by_ranges: bool = True
    is_folder: bool = False


class _Reader(Protocol):
    """Files by their addresses."""

    def look(self, url: str) -> _Known | None:
        """What is there; None if nothing is that may be read."""
        ...

    def names(self, url: str) -> list[str]:
        """What is in a folder, as far as can be told."""
        ...

    def read(self, url: str, offset: int, count: int) -> bytes: ...

    def copy(self, url: str, target: BinaryIO, most: int | None) -> None:
        """Writes a file that cannot be read by ranges."""
        ...


class RemoteStore:
    """The store of a folder at an address; its paths are those of a folder on the disk that holds
    what had to be copied, and that is removed when the store is no more.

    Raises:
        CheckpointError: nobody here knows such addresses.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.folder = tempfile.mkdtemp(prefix="flaxmodels-")
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        is_web = self.url.startswith(("http://", "https://"))
        self._reader: _Reader = _Web() if is_web else _Fsspec(self.url)
        self._found: dict[str, _Known | None] = {}
        self._names: dict[str, list[str]] = {}

    def is_folder(self, path: str) -> bool:
        if path == self.folder:
            return True
        known = self._look(path)
        return known is not None and known.is_folder

    def exists(self, path: str) -> bool:
        return self._look(path) is not None

    def names(self, folder: str) -> list[str]:
        url = self._url(folder)
        if url not in self._names:
            self._names[url] = self._reader.names(url)
        return self._names[url]

    def expect(self, paths: Sequence[str], reads: Reads) -> None:
        if reads is Reads.PATH:
            for path in paths:
                self.copy(path)
        else:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="flaxmodels-look") as pool:
                list(pool.map(self._look, paths))

    def open(self, path: str, most: int | None = None) -> File:
        if os.path.exists(path):
            return LOCAL.open(path, most)
        url, known = self._url(path), self._look(path)
        if known is None or known.is_folder:
            raise fp.CheckpointError(f"{scrubbed(url)}: no such file, or none that may be read")
        if known.by_ranges:
            check_size(scrubbed(url), known.size, most)
            return RemoteFile(url, known.size, self._reader)
        self.copy(path, most)
        return LocalFile(path)

    def copy(self, path: str, most: int | None = None) -> None:
        """Has a file, or all of a folder, on the disk.

        Args:
            most: bytes of a file; of one that is larger no more than that is fetched.
        """
        known = self._look(path)
        if known is None or known.is_folder:
            for name in self.names(path):
                self.copy(os.path.join(path, name))
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.part", "wb") as target:
            if known.by_ranges:
                check_size(scrubbed(self._url(path)), known.size, most)
                file = RemoteFile(self._url(path), known.size, self._reader)
                for offset in range(0, file.size, _BLOCK):
                    target.write(file.read(offset, min(_BLOCK, file.size - offset)))
            else:
                self._reader.copy(self._url(path), target, most)
        os.replace(f"{path}.part", path)

    def _look(self, path: str) -> _Known | None:
        url = self._url(path)
        if url not in self._found:
            self._found[url] = self._reader.look(url)
        return self._found[url]

    def _url(self, path: str) -> str:
        inside = os.path.relpath(path, self.folder).replace(os.sep, "/")
        return self.url if inside == "." else f"{self.url}/{inside}"


class RemoteFile(File):
    """A file at an address, of which only what is asked for is read."""

    is_remote = True

    def __init__(self, url: str, size: int, reader: _Reader):
        super().__init__(scrubbed(url), size)
        self._url, self._reader = url, reader

    def _fill(self, offset: int, view: memoryview) -> None:
        data = self._reader.read(self._url, offset, len(view))
        if len(data) != len(view):
            raise fp.CheckpointError(
                f"{self.path}: {len(data)} bytes came from byte {offset} on, expected {len(view)}: "
                "the file has changed"
            )
        view[:] = data


class _Web:
    """Web servers, through the session of huggingface_hub, with no token."""

    _ALL = re.compile(r"bytes (?:0-0|\*)/(\d{1,18})", re.ASCII)

    def look(self, url: str) -> _Known | None:
        """By the first byte: some addresses are good for GET alone, and not every server that
        has ranges says so."""
        what = scrubbed(url)

        def call() -> _Known | None:
            from huggingface_hub.utils import hf_raise_for_status

            with self._get(url, {"Range": "bytes=0-0"}) as answer:
                if answer.status_code in (401, 403, 404, 410):  # 403: S3, of what is not there
                    return None
                said = self._ALL.fullmatch(answer.headers.get("content-range", ""))
                if answer.status_code == 416 and said and int(said[1]) == 0:
                    return _Known()
                hf_raise_for_status(answer)
                if answer.status_code != 206:
                    return _Known(by_ranges=False)
                if said is None:
                    raise fp.CheckpointError(f"{what}: the server does not say how large it is")
                return _Known(int(said[1]))

        return attempt(what, call, whose="the server")

    def names(self, url: str) -> list[str]:
        return []

    def read(self, url: str, offset: int, count: int) -> bytes:
        return get(scrubbed(url), url, offset, count, {}, whose="the server")

    def copy(self, url: str, target: BinaryIO, most: int | None) -> None:
        what = scrubbed(url)

        def call() -> None:
            from huggingface_hub.utils import hf_raise_for_status

            target.seek(0)
            target.truncate()
            with self._get(url, {}) as answer:
                hf_raise_for_status(answer)
                length = answer.headers.get("content-length", "")
                if _LENGTH.fullmatch(length):  # the client holds the server to it
                    check_size(what, int(length), most)
                    limit = int(length)
                else:
                    limit = _MOST_UNSIZED if most is None else most
                for block in answer.iter_bytes():
                    check_size(what, target.tell() + len(block), limit)
                    target.write(block)

        attempt(what, call, whose="the server")

    def _get(self, url: str, headers: dict[str, str]) -> Any:
        from huggingface_hub import get_session

        headers = headers | {"Accept-Encoding": "identity"}
        return get_session().stream("GET", url, headers=headers, timeout=timeout())


class _Fsspec:
    """Whatever fsspec knows: gs://, s3://, az://, memory://, ..."""

    def __init__(self, url: str):
        fsspec: Any = importlib.import_module("fsspec")  # it comes with huggingface_hub
        try:
            self._system, _ = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise fp.CheckpointError(
                f"{scrubbed(url)}: fsspec cannot open such addresses here: {scrubbed(error)}"
            ) from None

    def look(self, url: str) -> _Known | None:
        def call() -> _Known | None:
            try:
                said = self._system.info(url)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return _Known(said["size"] or 0, is_folder=said["type"] != "file")

        return self._attempt(url, call)

    def names(self, url: str) -> list[str]:
        def call() -> list[str]:
            try:
                found = self._system.ls(url, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(os.path.basename(name.rstrip("/")) for name in found)

        return self._attempt(url, call)

    def read(self, url: str, offset: int, count: int) -> bytes:
        return self._attempt(url, lambda: self._system.cat_file(url, offset, offset + count))

    def copy(self, url: str, target: BinaryIO, most: int | None) -> None:
        raise AssertionError("stores have ranges")

    def _attempt(self, url: str, call: Any) -> Any:
        return attempt(scrubbed(url), call, whose="the store")
