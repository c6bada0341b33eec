"""Where the datasets of an HDF5 file are: a program that `h5.py` runs in a process of its own.

    python -I -S _walk.py PATH SYS_PATH_ENTRY...

Prints JSON: a list of [name, shape, dtype, offset, size], or what is wrong with the file as text.
Only metadata is read, and no link is followed but those to what the file itself holds.
"""

import json
import resource
import sys
from typing import Any


def limited() -> None:
    """Limits this process, before h5py is loaded and anything of the file is looked at."""
    for limit, value in (
        (resource.RLIMIT_AS, 2 << 30),
        (resource.RLIMIT_CPU, 20),  # seconds
        (resource.RLIMIT_FSIZE, 64 << 20),  # of what is printed
        (resource.RLIMIT_CORE, 0),
    ):
        most = resource.getrlimit(limit)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    limited()
    sys.path[:] = sys.argv[2:]

import h5py  # noqa: E402
import numpy as np  # noqa: E402

MAX_LISTED = 100_000
MAX_NAMES = 20_000  # that are looked up, each of which takes a tenth of a millisecond
MAX_DEPTH = 64
TOP = "top_level_model_weights"
TYPES = {  # those that are in a file as they are in memory
    name: h5py.h5t.py_create(np.dtype(name).newbyteorder("<"), logical=True)
    for name in (
        "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool"
    ).split()
}


class Refused(Exception):
    """What is in the file is not what Keras and Transformers write."""


def main(path: str) -> list | str:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return [described(*item) for item in datasets(file).items()]
    except Refused as error:
        return str(error)
    except Exception as error:  # libhdf5's, of many kinds
        return f"not HDF5, or damaged: {error}"


def datasets(file) -> dict:
    """Finds all datasets -> {name: dataset}. Keras lists its layers in an attribute of the file (a
    whole model's are one group down), and each layer's variables in one of its group; a variable
    that two layers share is there twice, so the first is taken. The shards of Transformers list
    their datasets where Keras lists layers. Where there is no list, every dataset is taken."""
    root = member(file, "model_weights") if "model_weights" in file else file
    layers = listed(root, "layer_names")
    if layers is None:
        return everything(root)
    found, count = {}, 0
    for layer in dict.fromkeys([*layers, TOP] if TOP in root else layers):
        node = member(root, layer)
        if isinstance(node, h5py.Dataset):
            found[layer] = node
            continue
        names = listed(node, "weight_names")
        if names is None:
            raise Refused(f"layer {layer[:200]!a} has no weight_names")
        count += 1 + len(names)
        if count > MAX_NAMES:
            raise Refused(f"lists more than {MAX_NAMES} layers and datasets")
        for name in names:
            if name not in found:
                found[name] = member(node, name)
    return found


def listed(group, name: str) -> list[str] | None:
    """Reads an attribute that is a list of names, or None; Keras cuts a long one into `name0`,
    ..."""
    if name in group.attrs:
        return strings(group, name)
    names, part = None, 0
    while f"{name}{part}" in group.attrs:
        names = (names or []) + strings(group, f"{name}{part}")
        part += 1
    return names


def strings(group, name: str) -> list[str]:
    attribute = group.attrs.get_id(name)
    if attribute.shape == (0,):  # Keras gives an empty list of names no type
        return []
    is_text = isinstance(attribute.get_type(), h5py.h5t.TypeStringID)
    if not is_text or len(attribute.shape) != 1 or attribute.shape[0] > MAX_LISTED:
        raise Refused(f"attribute {name} is not a list of at most {MAX_LISTED} names")
    values = group.attrs[name]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def everything(root) -> dict:
    """Finds every dataset below a group, by its path."""
    found, seen, groups = {}, {root}, [("", root)]
    while groups:
        path, group = groups.pop()
        if len(found) + len(seen) + len(group) > MAX_NAMES:
            raise Refused(f"more than {MAX_NAMES} groups and datasets")
        for name in group:
            inner = f"{path}/{name}" if path else name
            node = member(group, name)
            if node in seen or inner.count("/") > MAX_DEPTH:
                raise Refused(f"{inner[:200]!a} is there twice, or too deep")
            seen.add(node)
            if isinstance(node, h5py.Group):
                groups.append((inner, node))
            else:
                found[inner] = node
    return found


def member(group, path: str) -> Any:
    """Returns the group or dataset at `path` below a group, no step of which leaves this file."""
    node: Any = group
    for part in path.split("/"):
        inside = part and isinstance(node, h5py.Group)
        link = node.get(part, getlink=True) if inside else None
        if link is None:
            raise Refused(f"{path[:200]!a} is named, but is not there")
        if not isinstance(link, h5py.HardLink):
            raise Refused(f"{path[:200]!a} is a {type(link).__name__}, which leads elsewhere")
        node = node[part]
    return node


def described(name: str, dataset) -> list:
    location = f"dataset {name[:200]!a}"
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise Refused(f"{location} is no array")
    stored = dataset.id.get_create_plist()
    if (
        stored.get_layout() != h5py.h5d.CONTIGUOUS
        or stored.get_nfilters()
        or stored.get_external_count()
    ):
        raise Refused(
            f"{location} is chunked, compressed, virtual or in another file; only the contiguous "
            "datasets that Keras and Transformers write are read"
        )
    kind = dataset.id.get_type()
    dtype = next((name for name, type_ in TYPES.items() if type_ == kind), None)
    if dtype is None:
        raise Refused(
            f"{location} is of type {str(dataset.dtype)[:200]!a}; known are little-endian "
            f"{', '.join(TYPES)}"
        )
    offset = dataset.id.get_offset()
    if offset is None and dataset.size:
        raise Refused(f"{location} was never written")
    return [name, list(dataset.shape), dtype, offset or 0, dataset.id.get_storage_size()]


if __name__ == "__main__":
    json.dump(main(sys.argv[1]), sys.stdout)
