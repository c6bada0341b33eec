"""Folders on object stores and plain web servers: read by ranges, no file is copied whole unless a
library wants it on the disk."""

import importlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from .. import params as fp
from .client import attempt, scrubbed
from .ranges import get

_AT_ONCE = 8
_BLOCK = 8 << 20  # bytes copied at a time


class _Reader(Protocol):
    """Files by their addresses."""

    def size(self, url: str) -> int | None:
        """Bytes of a file; None if there is none."""
        ...

    def names(self, url: str) -> list[str]:
        """What is in a folder, as far as can be told."""
        ...

    def read(self, url: str, offset: int, count: int) -> bytes: ...


class Elsewhere:
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
        self._sizes: dict[str, int | None] = {}
        self._names: dict[str, list[str]] = {}

    def is_folder(self, path: str) -> bool:
        return path == self.folder or bool(not self.exists(path) and self.names(path))

    def exists(self, path: str) -> bool:
        url = self._url(path)
        if url not in self._sizes:
            self._sizes[url] = self._reader.size(url)
        return self._sizes[url] is not None

    def names(self, folder: str) -> list[str]:
        url = self._url(folder)
        if url not in self._names:
            self._names[url] = self._reader.names(url)
        return self._names[url]

    def expect(self, paths: Sequence[str], reads: fp.Reads) -> None:
        if reads is fp.Reads.PATH:
            for path in paths:
                self.copy(path)
        else:
            with ThreadPoolExecutor(_AT_ONCE) as pool:  # a request for each size
                list(pool.map(self.exists, paths))

    def open(self, path: str) -> fp.File:
        if os.path.exists(path):
            return fp.LocalFile(path)
        return self._remote(path)

    def copy(self, path: str) -> None:
        """Has a file, or all of a folder, on the disk."""
        if not self.exists(path):
            for name in self.names(path):
                self.copy(os.path.join(path, name))
            return
        file = self._remote(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as target:
            for offset in range(0, file.size, _BLOCK):
                target.write(file.read(offset, min(_BLOCK, file.size - offset)))

    def _remote(self, path: str) -> "RangedFile":
        url = self._url(path)
        if not self.exists(path):
            raise fp.CheckpointError(f"{scrubbed(url)}: no such file")
        size = self._sizes[url]
        assert size is not None
        return RangedFile(url, size, self._reader)

    def _url(self, path: str) -> str:
        inside = os.path.relpath(path, self.folder).replace(os.sep, "/")
        return self.url if inside == "." else f"{self.url}/{inside}"


class RangedFile(fp.File):
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

    def size(self, url: str) -> int | None:
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        def call() -> int | None:
            headers = {"Accept-Encoding": "identity"}
            answer = get_session().head(url, headers=headers, timeout=30)
            if answer.status_code in (404, 410):
                return None
            hf_raise_for_status(answer)
            said = answer.headers.get("content-length", "")
            if not said.isdigit():
                raise fp.CheckpointError(
                    f"{scrubbed(url)}: the server does not say how large it is"
                )
            return int(said)

        return attempt(scrubbed(url), call, whose="the server")

    def names(self, url: str) -> list[str]:
        return []

    def read(self, url: str, offset: int, count: int) -> bytes:
        return get(scrubbed(url), url, offset, count, {}, whose="the server")


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

    def size(self, url: str) -> int | None:
        def call() -> int | None:
            try:
                said = self._system.info(url)
            except FileNotFoundError:
                return None
            return said["size"] if said["type"] == "file" else None

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

    def _attempt(self, url: str, call: Any) -> Any:
        return attempt(scrubbed(url), call, whose="the store")
