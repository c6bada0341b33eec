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
import threading
from collections.abc import Iterable, Iterator

import numpy as np

from ...errors import CheckpointError, quoted
from ...host.threads import unwatched
from ...strict_json import Json
from ...tree.naming import FLAX
from ..files import LocalFile
from ..msgpack import MAX_DEPTH, MAX_NODES, TEXTS, Node, Walker, read_index
from ..source import Tensor
from .layout import AGGREGATE, MANIFEST, TREE, check_files, find, has_aggregate, holds, read_json
from .pinned import PinnedFolder
from .zarr import open_arrays

_LONGEST_NAME = 4096
_CHUNK = 32 << 20  # bytes; as much as is read at once by default

_ARRAYS = ("jax.Array", "np.ndarray", "scalar")
_EMPTY = ("None", "Dict", "List", "Tuple", "NamedTuple")
_POINTER = "PLACEHOLDER://"
_ONE_SAVE = threading.Lock()
"""orbax's saves in several threads at once end without their arrays, or not at all."""


def read_folder(path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads a checkpoint -> ({"a/b/c": lazy tensor} of every array, metadata).

    Of a step with several parts the one called `default` is taken, else the only one; of a folder
    of steps, the last that is finished.

    Raises:
        CheckpointError: no finished checkpoint, or anything in it that is not as orbax writes it.
    """
    folder = find(path)
    pinned = PinnedFolder(folder)
    stored, largest = check_files(folder)
    inline, arrays, metadata = _leaves(folder)
    if arrays:
        inline |= open_arrays(
            pinned,
            arrays,
            ocdbt=_flag(folder, metadata, "use_ocdbt", holds(folder, MANIFEST)),
            version=3 if _flag(folder, metadata, "use_zarr3", False) else 2,
            stored=stored,
            largest=largest,
        )
    pinned.check()
    return inline, {"format": FLAX}


def write_folder(path: str, tree: object) -> None:
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
        with _ONE_SAVE, unwatched(), ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(os.path.abspath(path), tree, save_args=arguments)
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        raise CheckpointError(f"{path}: orbax cannot write it: {error}") from error


def _flag(folder: str, metadata: dict[str, Json], name: str, default: bool) -> bool:
    value = metadata.get(name, default)
    if type(value) is not bool:
        raise CheckpointError(f"{folder}/{TREE}: {name} is {quoted(value)}, expected a bool")
    return value


def _leaves(folder: str) -> tuple[dict[str, Tensor], dict[str, str], dict[str, Json]]:
    """Lists the leaves -> ({path: tensor in the msgpack file}, {path: name of an array},
    `_METADATA`)."""
    inline: dict[str, Tensor] = {}
    if has_aggregate(folder):
        inline = read_index(LocalFile(os.path.join(folder, AGGREGATE)), _Aggregate)
    arrays = {path: leaf.target for path, leaf in inline.items() if isinstance(leaf, _Pointer)}
    inline = {path: leaf for path, leaf in inline.items() if path not in arrays}
    metadata: dict[str, Json] = {}
    if holds(folder, TREE):
        metadata = read_json(folder, TREE)
        location = os.path.join(folder, TREE)
        pairs = list(_listed(location, metadata.get("tree_metadata")))
        _check_unique(folder, [path for path, _ in pairs])
        leaves = dict(pairs)
        arrays = {path: name for path, name in leaves.items() if name}
        if lost := [path for path, name in leaves.items() if not name and path not in inline]:
            raise CheckpointError(
                f"{location}: {quoted(lost[0])} has no array, nor a value elsewhere"
            )
        inline = {path: leaf for path, leaf in inline.items() if leaves.get(path) == ""}
    _check_unique(folder, [*inline, *arrays])
    _check_names(folder, arrays.values())
    return inline, arrays, metadata


def _listed(location: str, tree: object) -> Iterator[tuple[str, str]]:
    """Lists the leaves of `_METADATA` as (path, name of its array, "" if it has none)."""
    if not isinstance(tree, dict) or len(tree) > MAX_NODES:
        raise CheckpointError(f"{location}: no tree_metadata that maps at most {MAX_NODES} leaves")
    for label, entry in tree.items():
        entry = entry if isinstance(entry, dict) else {}
        keys, value = entry.get("key_metadata"), entry.get("value_metadata")
        value = value if isinstance(value, dict) else {}
        if not isinstance(keys, list) or not 0 < len(keys) <= MAX_DEPTH or not all(map(_key, keys)):
            raise CheckpointError(
                f"{location}: {quoted(label)}: expected 1 to {MAX_DEPTH} keys of type 1 (an index) "
                "or 2 (a name)"
            )
        kind = value.get("value_type")
        if kind in _EMPTY:
            continue
        if kind not in _ARRAYS:
            raise CheckpointError(f"{location}: {quoted(label)} holds {quoted(kind)}, not an array")
        parts = [key["key"] for key in keys]
        yield "/".join(parts), "" if value.get("skip_deserialize") is True else ".".join(parts)


def _key(key: object) -> bool:
    """Tells whether this describes one step from a node to its child."""
    name, kind = (key.get("key"), key.get("key_type")) if isinstance(key, dict) else (None, None)
    if not isinstance(name, str) or type(kind) is not int:
        return False
    return kind == 2 or (kind == 1 and name.isascii() and name.isdecimal())


def _check_unique(folder: str, paths: Iterable[str]) -> None:
    """Refuses two leaves that have one name, in orbax or here."""
    seen: dict[str, str] = {}
    for path in paths:
        name = path.replace("/", ".")
        if name in seen:
            raise CheckpointError(
                f"{folder}: leaves {quoted(seen[name])} and {quoted(path)} have the same name in "
                "orbax"
            )
        seen[name] = path


def _check_names(folder: str, names: Iterable[str]) -> None:
    """Refuses the name of an array that leads out of the folder."""
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

    def other(self, code: int, path: str, depth: int) -> Node:
        if code == 0xC0:
            return {}
        if code & 0xF0 == 0x90 or code in (0xDC, 0xDD):
            count = code & 0x0F if code < 0xDC else self.size(2 if code == 0xDC else 4)
            return {str(i): self.value(f"{path}/{i}", depth + 1) for i in self.up_to(count, path)}
        if code in TEXTS:
            text = self.text(code, path)
            if text.startswith(_POINTER):
                return _Pointer(path, (), np.dtype(np.bool_), (), text.removeprefix(_POINTER))
        return super().other(code, path, depth)
