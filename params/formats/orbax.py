"""orbax: a folder with a description of the tree, and an array for each leaf.

What `orbax.checkpoint.StandardCheckpointer().save(folder, tree)` writes: `_METADATA` lists the
leaves; their arrays lie in one OCDBT database, or each in a folder called after it. Old versions
also write a msgpack file `checkpoint`, which holds some values itself and points to the others.

orbax keeps no checksum of the data, so a flipped bit is not noticed. Old versions leave out chunks
of zeros where they write zarr 3; these cannot be told from lost ones, so a chunk that is missing
is always an error.
"""

import dataclasses
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import strict_json
from ..errors import CheckpointError, quoted, some
from ..names import FLAX
from .files import File, check_inside
from .msgpack import MAX_DEPTH, MAX_NODES, Walker, read_index
from .source import Tensor
from .zarr import open_arrays

_TREE = "_METADATA"
_AGGREGATE = "checkpoint"
_STEP = "_CHECKPOINT_METADATA"
_MANIFEST = "manifest.ocdbt"
_COMMITTED = "commit_success.txt"
_UNFINISHED = ".orbax-checkpoint-tmp"
_LARGEST_JSON = 100 << 20
_LONGEST_NAME = 4096
_MOST_FILES = 2_000_000
_CHUNK = 32 << 20  # bytes; as much as is read at once by default

_ARRAYS = ("jax.Array", "np.ndarray", "scalar")
_EMPTY = ("None", "Dict", "List", "Tuple", "NamedTuple")
_STEP_NAME = re.compile("[0-9]{1,18}")
_POINTER = "PLACEHOLDER://"


def is_folder(path: str) -> bool:
    """Whether this is an orbax checkpoint, a step with one, a folder of steps, or the rest of an
    interrupted save."""
    return _is_step(path) or any(
        _UNFINISHED in name or (_STEP_NAME.fullmatch(name) and _is_step(folder))
        for name, folder in _folders(path)
    )


def read_folder(path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """("a/b/c" -> lazy tensor for every array of a checkpoint, whose names these are).

    Of a step with several parts the one called `default` is taken, else the only one; of a folder
    of steps, the last that is finished.

    Raises:
        CheckpointError: no finished checkpoint, or anything in it that is not as orbax writes it.
    """
    folder = _find(path)
    stored = _check_files(folder)
    inline, arrays, metadata = _leaves(folder)
    if arrays:
        inline |= open_arrays(
            folder,
            arrays,
            ocdbt=_flag(folder, metadata, "use_ocdbt", _holds(folder, _MANIFEST)),
            version=3 if _flag(folder, metadata, "use_zarr3", False) else 2,
            stored=stored,
        )
    return inline, {"format": FLAX}


def write_folder(path: str, tree: Any) -> None:
    """Writes a tree of arrays, sharded ones included, into a folder that is not there yet.

    Raises:
        CheckpointError: an array without elements, or what else orbax does not write.
    """
    import jax
    import orbax.checkpoint as ocp

    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if 0 in leaf.shape:
            name = jax.tree_util.keystr(keys, simple=True, separator="/")
            raise CheckpointError(
                f"{path}: {name} of shape {leaf.shape}: orbax writes no such array"
            )
    arguments = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=_CHUNK), tree)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(os.path.abspath(path), tree, save_args=arguments)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: orbax cannot write it: {error}") from error


def _find(path: str) -> str:
    """The folder that the tree lies in."""
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
    """(name, path) of the folders in a folder."""
    try:
        with os.scandir(path) as entries:
            yield from [(entry.name, entry.path) for entry in entries if entry.is_dir()]
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _holds(folder: str, name: str) -> bool:
    return os.path.isfile(os.path.join(folder, name))


def _is_step(folder: str) -> bool:
    return _holds(folder, _STEP) or _has_tree(folder) or _has_tree(os.path.join(folder, "default"))


def _has_tree(folder: str) -> bool:
    return _holds(folder, _TREE) or _has_aggregate(folder)


def _has_aggregate(folder: str) -> bool:
    """Whether there is a msgpack map called `checkpoint`; TensorFlow writes a text of this name."""
    if not _holds(folder, _AGGREGATE):
        return False
    file = File(os.path.join(folder, _AGGREGATE))
    start = file.read(0, min(file.size, 1))
    return not start or 0x80 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF)


def _is_finished(folder: str) -> bool:
    """Not, if the step's description lacks the time that orbax enters last, and the mark of a
    finished save on storage without atomic renames is not there either."""
    if _UNFINISHED in os.path.basename(os.path.normpath(folder)):
        return False
    if not _holds(folder, _STEP) or _holds(folder, _COMMITTED):
        return True
    return _read_json(folder, _STEP).get("commit_timestamp_nsecs", 0) is not None


def _read_json(folder: str, name: str) -> dict[str, Any]:
    file = File(os.path.join(folder, name))
    if file.size > _LARGEST_JSON:
        raise CheckpointError(f"{file.path}: {file.size} bytes; it has at most {_LARGEST_JSON}")
    try:
        value = strict_json.loads(file.read(0, file.size))
    except ValueError as error:
        raise CheckpointError(f"{file.path}: not valid: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file.path}: expected a map at the top")
    return value


def _flag(folder: str, metadata: dict[str, Any], name: str, default: bool) -> bool:
    value = metadata.get(name, default)
    if type(value) is not bool:
        raise CheckpointError(f"{folder}/{_TREE}: {name} is {quoted(value)}, expected a bool")
    return value


def _check_files(folder: str) -> int:
    """Refuses what TensorStore must not open: links out of the folder, pipes and devices.

    Returns:
        Bytes of all files.
    """
    total, count, waiting = 0, 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_symlink():
                        check_inside(folder, entry.path)
                    elif entry.is_dir():
                        waiting.append(entry.path)
                        continue
                    info = entry.stat()
                    if not stat.S_ISREG(info.st_mode) or count > _MOST_FILES:
                        raise CheckpointError(
                            f"{entry.path}: not a regular file, or one of more than {_MOST_FILES}"
                        )
                    total += info.st_size
        except OSError as error:
            raise CheckpointError(f"{folder}: {error}") from error
    return total


def _leaves(folder: str) -> tuple[dict[str, Tensor], dict[str, str], dict[str, Any]]:
    """(path -> tensor in the msgpack file, path -> name of an array, what `_METADATA` says)."""
    inline: dict[str, Tensor] = {}
    if _has_aggregate(folder):
        inline = read_index(File(os.path.join(folder, _AGGREGATE)), _Aggregate)
    arrays = {path: leaf.target for path, leaf in inline.items() if isinstance(leaf, _Pointer)}
    inline = {path: leaf for path, leaf in inline.items() if path not in arrays}
    metadata: dict[str, Any] = {}
    if _holds(folder, _TREE):
        metadata = _read_json(folder, _TREE)
        where = os.path.join(folder, _TREE)
        leaves = dict(_listed(where, metadata.get("tree_metadata")))
        arrays = {path: name for path, name in leaves.items() if name}
        if lost := [path for path, name in leaves.items() if not name and path not in inline]:
            raise CheckpointError(f"{where}: {quoted(lost[0])} has no array, nor a value elsewhere")
        inline = {
            path: leaf for path, leaf in inline.items() if path in leaves and not leaves[path]
        }
    _check_names(folder, [*inline, *arrays], list(arrays.values()))
    return inline, arrays, metadata


def _listed(where: str, tree: Any) -> Iterator[tuple[str, str]]:
    """(path, name of its array, "" if it has none) of the leaves that `_METADATA` lists."""
    if not isinstance(tree, dict) or len(tree) > MAX_NODES:
        raise CheckpointError(f"{where}: no tree_metadata that maps at most {MAX_NODES} leaves")
    for label, entry in tree.items():
        entry = entry if isinstance(entry, dict) else {}
        keys, value = entry.get("key_metadata"), entry.get("value_metadata")
        value = value if isinstance(value, dict) else {}
        if not isinstance(keys, list) or not 0 < len(keys) <= MAX_DEPTH or not all(map(_key, keys)):
            raise CheckpointError(
                f"{where}: {quoted(label)}: expected 1 to {MAX_DEPTH} keys of type 1 (an index) "
                "or 2 (a name)"
            )
        kind = value.get("value_type")
        if kind in _EMPTY:
            continue
        if kind not in _ARRAYS:
            raise CheckpointError(f"{where}: {quoted(label)} holds {quoted(kind)}, not an array")
        parts = [key["key"] for key in keys]
        yield "/".join(parts), "" if value.get("skip_deserialize") is True else ".".join(parts)


def _key(key: Any) -> bool:
    """Whether this is the description of one step from a node to its child."""
    name, kind = (key.get("key"), key.get("key_type")) if isinstance(key, dict) else (None, None)
    if not isinstance(name, str) or type(kind) is not int:
        return False
    return kind == 2 or (kind == 1 and name.isascii() and name.isdecimal())


def _check_names(folder: str, paths: list[str], names: list[str]) -> None:
    """Each leaf has a name of its own, and no array's name leads out of the folder."""
    seen: dict[str, str] = {}
    for path in paths:
        same = seen.setdefault(path.replace("/", "."), path)
        if same is not path:
            raise CheckpointError(
                f"{folder}: leaves {quoted(same)} and {quoted(path)} have the same name in orbax"
            )
    for name in names:
        parts = name.split("/")
        if set(name) & set("\0\\") or {"", ".", ".."} & set(parts) or len(name) > _LONGEST_NAME:
            raise CheckpointError(f"{folder}: {quoted(name)} cannot be the name of an array")


@dataclasses.dataclass(frozen=True)
class _Pointer(Tensor):
    """Stands for a leaf that the msgpack file says is in an array of its own."""

    target: str = ""


class _Aggregate(Walker):
    """The msgpack file of old versions: it may also hold lists, None, and pointers to arrays."""

    def other(self, code: int, path: str, depth: int) -> Any:
        if code == 0xC0:
            return {}
        if code & 0xF0 == 0x90 or code in (0xDC, 0xDD):
            count = code & 0x0F if code < 0xDC else self.size(2 if code == 0xDC else 4)
            return {str(i): self.value(f"{path}/{i}", depth + 1) for i in self.up_to(count, path)}
        if code & 0xE0 == 0xA0 or code in (0xD9, 0xDA, 0xDB):
            text = self.text(code, path)
            if text.startswith(_POINTER):
                return _Pointer(path, (), np.dtype(np.bool_), (), text.removeprefix(_POINTER))
        return super().other(code, path, depth)
