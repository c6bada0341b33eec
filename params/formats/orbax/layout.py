"""The layout of folders that orbax wrote: where the tree lies, and whether its files may be
opened."""

import os
import re
import stat
from collections.abc import Iterable, Iterator

from ...errors import CheckpointError, quoted, some
from ...strict_json import Json
from ..files import LocalFile

TREE = "_METADATA"
AGGREGATE = "checkpoint"
MANIFEST = "manifest.ocdbt"
_STEP = "_CHECKPOINT_METADATA"
_COMMITTED = "commit_success.txt"
_UNFINISHED = ".orbax-checkpoint-tmp"
_STEP_NAME = re.compile("[0-9]{1,18}")
_MOST_FILES = 2_000_000
# TensorStore ends the process where memory for a file is not to be had.
_LARGEST_FILE = 16 << 30
_LARGEST_SIDE_FILE = 16 << 20
_SIDE_FILES = (MANIFEST, ".zarray", "zarr.json")


def is_folder(path: str) -> bool:
    """Tells whether this is an orbax checkpoint, a step with one, a folder of steps, or the rest of
    an interrupted save."""
    return _is_step(path) or any(
        _UNFINISHED in name or (_STEP_NAME.fullmatch(name) and _is_step(folder))
        for name, folder in _folders(path)
    )


def may_be(names: Iterable[str]) -> bool:
    """Tells whether a folder with these names in it could be orbax's."""
    known = (TREE, AGGREGATE, _STEP, "default")
    return any(name in known or _UNFINISHED in name or _STEP_NAME.fullmatch(name) for name in names)


def find(path: str) -> str:
    """Finds the folder that the tree lies in: of a step with several parts the one called
    `default`, else the only one; of a folder of steps, in the last that is finished.

    Raises:
        CheckpointError: there is none, or none that is finished.
    """
    steps = {int(n): f for n, f in _folders(path) if _STEP_NAME.fullmatch(n) and _is_step(f)}
    if not _has_tree(path) and (finished := [n for n in steps if _is_finished(steps[n])]):
        path = steps[max(finished)]
    elif not _is_finished(path):
        raise CheckpointError(
            f"{path}: the save was not finished: no time of commit in {_STEP}, no {_COMMITTED}; "
            "take an earlier step, or copy it again from where it is whole"
        )
    if _has_tree(path):
        return path
    items = {n: f for n, f in _folders(path) if _UNFINISHED not in n and _has_tree(f)}
    if "default" in items or len(items) == 1:
        return items.get("default") or items.popitem()[1]
    if items:
        raise CheckpointError(f"{path}: open one of its parts: {some(sorted(items))}")
    there = [name for name, _ in _folders(path)]
    if rest := sorted(name for name in there if _UNFINISHED in name):
        raise CheckpointError(f"{path}: the save was interrupted; found {quoted(rest[0])}")
    raise CheckpointError(f"{path}: no orbax checkpoint; folders there: {some(sorted(there))}")


def _folders(path: str) -> Iterator[tuple[str, str]]:
    """Lists the folders in a folder as (name, path)."""
    try:
        with os.scandir(path) as entries:
            yield from [(entry.name, entry.path) for entry in entries if entry.is_dir()]
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def holds(folder: str, name: str) -> bool:
    """Tells whether a file of this name is in a folder."""
    return os.path.isfile(os.path.join(folder, name))


def _is_step(folder: str) -> bool:
    return holds(folder, _STEP) or _has_tree(folder) or _has_tree(os.path.join(folder, "default"))


def _has_tree(folder: str) -> bool:
    return holds(folder, TREE) or has_aggregate(folder)


def has_aggregate(folder: str) -> bool:
    """Tells whether there is a msgpack map called `checkpoint`; TensorFlow writes a text of this
    name."""
    if not holds(folder, AGGREGATE):
        return False
    file = LocalFile(os.path.join(folder, AGGREGATE))
    start = file.read(0, min(file.size, 1))
    return not start or 0x80 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF)


def _is_finished(folder: str) -> bool:
    """Tells whether a save was finished: orbax enters the time last, or, on storage without atomic
    renames, leaves a mark."""
    if _UNFINISHED in os.path.basename(os.path.normpath(folder)):
        return False
    if not holds(folder, _STEP) or holds(folder, _COMMITTED):
        return True
    return read_json(folder, _STEP).get("commit_timestamp_nsecs", 0) is not None


def read_json(folder: str, name: str) -> dict[str, Json]:
    """Reads a file of a folder that holds a JSON object."""
    file = LocalFile(os.path.join(folder, name))
    value = file.json("valid")
    if not isinstance(value, dict):
        raise CheckpointError(f"{file.path}: expected a map at the top")
    return value


def check_files(folder: str) -> tuple[int, int]:
    """Checks the files of a folder -> (bytes of all, bytes of the largest in a subfolder).

    Raises:
        CheckpointError: files that TensorStore must not open: pipes, devices, links in a circle,
            and ones too large for what they are.
    """
    total = largest = 0
    for path, size in _files(folder):
        limit = _LARGEST_SIDE_FILE if os.path.basename(path) in _SIDE_FILES else _LARGEST_FILE
        if size > limit:
            raise CheckpointError(f"{path}: {size} bytes; such a file has at most {limit}")
        total += size
        if os.sep in os.path.relpath(path, folder):
            largest = max(largest, size)
    return total, largest


def _files(folder: str) -> Iterator[tuple[str, int]]:
    """Lists the files in a folder and its subfolders, links followed, as (path, bytes); refuses any
    that is not regular."""
    count, waiting, seen = 0, [folder], set()
    while waiting:
        try:
            inside = waiting.pop()
            if (real := os.path.realpath(inside)) in seen:
                raise CheckpointError(f"{inside}: a folder that is there twice, through a link")
            seen.add(real)
            with os.scandir(inside) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_dir():
                        waiting.append(entry.path)
                        continue
                    info = entry.stat()
                    if not stat.S_ISREG(info.st_mode) or count > _MOST_FILES:
                        raise CheckpointError(
                            f"{entry.path}: not a regular file, or one of more than {_MOST_FILES}"
                        )
                    yield entry.path, info.st_size
        except OSError as error:
            raise CheckpointError(f"{folder}: {error}") from error
