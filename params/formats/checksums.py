"""Checksums: sha256 of the files of a checkpoint, written at save and checked before a load."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import CheckpointError, quoted, some
from ..host.durable import sync_file
from ..strict_json import Json
from . import Source
from .files import File, LocalFile

MANIFEST = "checksums.json"
_BRIDGE = f"{MANIFEST}.both"


def write_checksums(folder: str | os.PathLike) -> None:
    """Writes `checksums.json`, {"sha256": {relative path: hex}}, of all files under `folder`.

    Raises:
        CheckpointError: a file that cannot be read, or a disk that is full or fails.
    """
    names = [name for name in _names(folder, [os.fspath(folder)]) if name != MANIFEST]
    _write(os.path.join(folder, MANIFEST), dict(zip(names, _digests(folder, names), strict=True)))


def manifest(digests: Mapping[str, str], before: Mapping[str, Sequence[str]] | None = None) -> str:
    """Returns the text of a `checksums.json`.

    Args:
        before: {relative path: other digests that are right}.
    """
    return json.dumps({"sha256": digests} | ({"before": before} if before else {}), indent=2) + "\n"


def write_bridge(new: Path, old: Path) -> str | None:
    """Writes the `checksums.json` that holds while the files of `new` are moved into the folder
    `old`: the manifest of `new`, and under "before" that of `old` -> its name in `new`, None if
    `new` has no manifest."""
    if not (new / MANIFEST).exists():
        return None
    digests, before = _read(LocalFile(new / MANIFEST))[0], {}
    with contextlib.suppress(CheckpointError):  # none, or none of ours
        before = {k: sorted(v) for k, v in _read(LocalFile(old / MANIFEST))[1].items()}
    _write(new / _BRIDGE, digests, before)
    sync_file(new / _BRIDGE)
    return _BRIDGE


def verify(source: Source, *others: str) -> None:
    """Reads the files of a source whole, and `others`, and compares them with the manifest that
    lies beside them.

    Raises:
        CheckpointError: no manifest, a file that it does not list, or one that has changed.
    """
    paths = {source.where, *(file.path for file in source.files), *others}
    folder = os.path.dirname(source.where)
    if not os.path.lexists(path := os.path.join(folder, MANIFEST)):
        raise CheckpointError(
            f"{path}: cannot be opened: no such file; save_pretrained(checksums=True) writes it"
        )
    _, right = _read(LocalFile(path))
    names = _names(folder, paths)
    for name in names:
        if _listed(name) not in right:
            raise CheckpointError(f"{os.path.join(folder, name)}: {MANIFEST} does not list it")
    for name, found in zip(names, _digests(folder, names), strict=True):
        if found not in right[_listed(name)]:
            raise CheckpointError(
                f"{os.path.join(folder, name)}: sha256 {found}, {MANIFEST} says "
                f"{some(map(quoted, sorted(right[_listed(name)])))}: the file is not what was "
                "saved; get it again"
            )


def _names(folder: str | os.PathLike, paths: Iterable[str]) -> list[str]:
    """Lists the files at `paths`, or below them, by their names relative to `folder`."""
    found = []
    for path in paths:
        inside = [os.path.join(root, name) for root, _, names in os.walk(path) for name in names]
        found += inside if os.path.isdir(path) else [path]
    return sorted(os.path.relpath(path, folder) for path in found)


def _digests(folder: str | os.PathLike, names: list[str]) -> list[str]:
    def digest(name: str) -> str:
        path = os.path.join(folder, name)
        LocalFile(path)  # a pipe, which would be waited for, is refused
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error

    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        return list(pool.map(digest, names))


def _listed(name: str) -> str:
    """Returns the name under which the manifest lists a file; its folder may have a temporary name
    (`in_place`)."""
    return re.sub(r"^([^/]+)-[0-9a-f]{8}(\.orbax/)", r"\1\2", name)


def _write(path: str | os.PathLike, *listed: Mapping[str, Json]) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(manifest(*listed))
    except OSError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error.strerror}") from error


def _read(file: File) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Reads a manifest -> (its digests, {name: all digests that are right})."""
    values = file.json("a manifest")
    values = values if isinstance(values, dict) else {}
    digests, before = values.get("sha256"), values.get("before", {})
    if not isinstance(digests, dict) or not all(isinstance(v, str) for v in digests.values()):
        raise CheckpointError(f"{file.path}: not a manifest: no sha256 of file names to hex digits")
    if not isinstance(before, dict) or not all(
        isinstance(v, list) and all(isinstance(x, str) for x in v) for v in before.values()
    ):
        raise CheckpointError(f"{file.path}: not a manifest: before is no map to lists of digits")
    right = {name: {digest} for name, digest in digests.items()}
    for name, others in before.items():
        right.setdefault(name, set()).update(others)
    return digests, right
