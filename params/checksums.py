"""Checksums: sha256 of the files of a checkpoint, written at save and checked before a load."""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from .errors import CheckpointError, quoted
from .formats import Source
from .formats.files import File, LocalFile

MANIFEST = "checksums.json"


def write_checksums(folder: str | os.PathLike) -> None:
    """Writes `checksums.json`, {"sha256": {relative path: hex}}, of all files under `folder`."""
    names = [name for name in _names(folder, [os.fspath(folder)]) if name != MANIFEST]
    with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
        file.write(manifest(dict(zip(names, _digests(folder, names), strict=True))))


def manifest(digests: dict[str, str]) -> str:
    """The text of a `checksums.json`."""
    return json.dumps({"sha256": digests}, indent=2) + "\n"


def verify(source: Source, *others: str) -> None:
    """Reads the files of a source whole, and `others`, and compares them with the manifest that
    lies beside them.

    Raises:
        CheckpointError: no manifest, a file that it does not list, or one that has changed.
    """
    paths = {source.where, *(file.path for file in source.files), *others}
    folder = os.path.dirname(source.where)
    expected = _read(LocalFile(os.path.join(folder, MANIFEST)))
    names = _names(folder, paths)
    for name in names:
        if name not in expected:
            raise CheckpointError(f"{os.path.join(folder, name)}: {MANIFEST} does not list it")
    for name, found in zip(names, _digests(folder, names), strict=True):
        if found != expected[name]:
            raise CheckpointError(
                f"{os.path.join(folder, name)}: sha256 {found}, {MANIFEST} says "
                f"{quoted(expected[name])}: the file is not what was saved; get it again"
            )


def _names(folder: str | os.PathLike, paths: Iterable[str]) -> list[str]:
    """The names, relative to `folder`, of files, and of all that is in folders, as orbax's are."""
    found = []
    for path in paths:
        inside = [os.path.join(root, name) for root, _, names in os.walk(path) for name in names]
        found += inside if os.path.isdir(path) else [path]
    return sorted(os.path.relpath(path, folder) for path in found)


def _digests(folder: str | os.PathLike, names: list[str]) -> list[str]:
    def digest(name: str) -> str:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{os.path.join(folder, name)}: {error.strerror}") from error

    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        return list(pool.map(digest, names))


def _read(file: File) -> dict[str, str]:
    values = file.json("a manifest")
    digests = values.get("sha256") if isinstance(values, dict) else None
    if not isinstance(digests, dict) or not all(isinstance(v, str) for v in digests.values()):
        raise CheckpointError(f"{file.path}: not a manifest: no sha256 of file names to hex digits")
    return digests
