"""Remote folders, on web servers and object stores: read by ranges, and no file is copied whole
unless a library wants it on the disk.

Object stores are read by fsspec. Its HTTP filesystem is not used: it needs aiohttp, has neither
our tries nor our proxies, and cannot read servers that have no ranges.
"""

import dataclasses
import importlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from .. import params as fp
from ..params.formats import LOCAL, File, LocalFile, Reads, check_size
from .client import attempt, get, raise_for_status, read_range
from .errors import scrubbed

if TYPE_CHECKING:
    from httpx2 import Response  # or httpx's, by the client's version

T = TypeVar("T")
_AT_ONCE = 8
_BLOCK = 8 << 20  # bytes copied at a time
_MOST_UNSIZED = 16 << 30  # bytes of a file whose server gives neither ranges nor its length
_LENGTH = re.compile(r"[0-9]{1,18}")
_FIRST_OF = re.compile(r"bytes (?:0-0|\*)/(\d{1,18})", re.ASCII)


@dataclasses.dataclass(frozen=True)
class _Info:
    """A folder, or a file; the size of a file that has no ranges is not asked for."""

    size: int = 0
    has_ranges: bool = True
    is_folder: bool = False


class RemoteStore:
    """The store of a folder at an address. Its paths are those of a temporary folder, which holds
    what had to be copied, and is removed when the store is no more.

    Raises:
        CheckpointError: nothing here can open such addresses.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.folder = tempfile.mkdtemp(prefix="flaxmodels-")
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        is_web = self.url.startswith(("http://", "https://"))
        self._reader = _Web() if is_web else _Fsspec(self.url)
        self._infos: dict[str, _Info | None] = {}
        self._names: dict[str, list[str]] = {}

    def is_folder(self, path: str) -> bool:
        if path == self.folder:
            return True
        info = self._info(path)
        return info is not None and info.is_folder

    def exists(self, path: str) -> bool:
        return self._info(path) is not None

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
                list(pool.map(self._info, paths))

    def open(self, path: str, most: int | None = None) -> File:
        if os.path.exists(path):
            return LOCAL.open(path, most)
        url, info = self._url(path), self._info(path)
        if info is None or info.is_folder:
            raise fp.CheckpointError(f"{scrubbed(url)}: no such file, or none that may be read")
        if info.has_ranges:
            check_size(scrubbed(url), info.size, most)
            return RemoteFile(url, info.size, self._reader)
        self.copy(path, most)
        return LocalFile(path)

    def copy(self, path: str, most: int | None = None) -> None:
        """Copies a file, or all of a folder, to the disk.

        Args:
            most: bytes of a file; of one that is larger no more than that is fetched.
        """
        info = self._info(path)
        if info is None or info.is_folder:
            for name in self.names(path):
                self.copy(os.path.join(path, name))
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.part", "wb") as target:
            if info.has_ranges:
                check_size(scrubbed(self._url(path)), info.size, most)
                file = RemoteFile(self._url(path), info.size, self._reader)
                for offset in range(0, file.size, _BLOCK):
                    target.write(file.read(offset, min(_BLOCK, file.size - offset)))
            else:
                self._reader.copy(self._url(path), target, most)
        os.replace(f"{path}.part", path)

    def _info(self, path: str) -> _Info | None:
        url = self._url(path)
        if url not in self._infos:
            self._infos[url] = self._reader.info(url)
        return self._infos[url]

    def _url(self, path: str) -> str:
        inside = os.path.relpath(path, self.folder).replace(os.sep, "/")
        return self.url if inside == "." else f"{self.url}/{inside}"


class RemoteFile(File):
    """A file at an address, of which only what is asked for is read."""

    is_remote = True
    is_kept = False

    def __init__(self, url: str, size: int, reader: "_Web | _Fsspec"):
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

    def info(self, url: str) -> _Info | None:
        """Reads the first byte: some addresses are good for GET alone, and not every server that
        has ranges says so. None where nothing is, or nothing that may be read."""

        def check(answer: "Response") -> _Info | None:
            if answer.status_code in (401, 403, 404, 410):  # 403: S3, of what is not there
                return None
            match = _FIRST_OF.fullmatch(answer.headers.get("content-range", ""))
            if answer.status_code == 416 and match and int(match[1]) == 0:
                return _Info()
            raise_for_status(answer)
            if answer.status_code != 206:
                return _Info(has_ranges=False)
            if match is None:
                raise fp.CheckpointError(
                    f"{scrubbed(url)}: the server does not say how large it is"
                )
            return _Info(int(match[1]))

        return get(scrubbed(url), url, check, {"Range": "bytes=0-0"}, "the server")

    def names(self, url: str) -> list[str]:
        return []  # a web server lists no folder

    def read(self, url: str, offset: int, count: int) -> bytes:
        return read_range(scrubbed(url), url, offset, count, server="the server")

    def copy(self, url: str, target: BinaryIO, most: int | None) -> None:
        """Writes a file that has no ranges."""

        def write(answer: "Response") -> None:
            raise_for_status(answer)
            target.seek(0)
            target.truncate()
            limit = _MOST_UNSIZED if most is None else most
            length = answer.headers.get("content-length", "")
            if _LENGTH.fullmatch(length):  # the client holds the server to it
                check_size(scrubbed(url), int(length), most)
                limit = int(length)
            for block in answer.iter_bytes():
                check_size(scrubbed(url), target.tell() + len(block), limit)
                target.write(block)

        get(scrubbed(url), url, write, {}, "the server")


class _Fsspec:
    """Object stores and what else fsspec knows: gs://, s3://, az://, memory://, ..."""

    def __init__(self, url: str):
        fsspec = importlib.import_module("fsspec")  # it comes with huggingface_hub
        try:
            self._system, _ = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise fp.CheckpointError(
                f"{scrubbed(url)}: fsspec cannot open such addresses here: {scrubbed(error)}"
            ) from None

    def info(self, url: str) -> _Info | None:
        found = self._call(url, lambda: self._system.info(url), None)
        return found and _Info(found["size"] or 0, is_folder=found["type"] != "file")

    def names(self, url: str) -> list[str]:
        paths = self._call(url, lambda: self._system.ls(url, detail=False), [])
        return sorted(os.path.basename(path.rstrip("/")) for path in paths)

    def read(self, url: str, offset: int, count: int) -> bytes:
        end = offset + count
        return attempt(
            scrubbed(url), lambda: self._system.cat_file(url, offset, end), server="the store"
        )

    def copy(self, url: str, target: BinaryIO, most: int | None) -> None:
        raise AssertionError("stores have ranges")

    def _call(self, url: str, call: Callable[[], T], absent: T) -> T:
        def tried() -> T:
            try:
                return call()
            except (FileNotFoundError, NotADirectoryError):
                return absent

        return attempt(scrubbed(url), tried, server="the store")
