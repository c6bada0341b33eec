"""Measuring: how many parameters, how many bytes, and a table of both."""

import math
import operator
from collections.abc import Collection
from typing import Literal, overload

import jax

from ..errors import quoted
from ..scalars import flag, whole
from ..sizes import format_size
from ..types import Leaf, PyTree
from .masks import Mask, as_mask
from .paths import arrays_of, flatten, flatten_arrays, natural
from .weights import Weight

HOST_KINDS = ("pinned_host", "unpinned_host")
"""The kinds of memory that devices reach and that are the host's."""

_WIDEST = 160  # characters of a cell


def num_parameters(params: PyTree, mask: Mask = True) -> int:
    """Counts how many numbers the leaves that `mask` selects hold; abstract trees too.

    Of a quantised weight those are counted that it stands for.

    >>> num_parameters({"a": jax.ShapeDtypeStruct((2, 3), "float32")})
    6
    """
    chosen = flatten(as_mask(mask, params))
    leaves = arrays_of(flatten(params))
    return sum(math.prod(leaf.shape) for path, leaf in leaves.items() if chosen[path])


@overload
def memory_footprint(params: PyTree, *, per_device: Literal[False] = False) -> int: ...


@overload
def memory_footprint(
    params: PyTree, *, per_device: Literal[True]
) -> dict[jax.Device | str, int]: ...


@overload
def memory_footprint(params: PyTree, *, per_device: bool) -> int | dict[jax.Device | str, int]: ...


def memory_footprint(
    params: PyTree, *, per_device: bool = False
) -> int | dict[jax.Device | str, int]:
    """Counts the bytes of a tree, each leaf counted once; or `{device: bytes}` of what this process
    holds, or would hold of abstract leaves. NumPy arrays, and those of JAX in host memory beside a
    device's, are on the "host", leaves in files on the "disk", abstract leaves without a sharding
    where JAX would put them.

    >>> memory_footprint({"a": jax.ShapeDtypeStruct((2, 3), "bfloat16")})
    12
    """
    flag("per_device", per_device)
    arrays_of(flatten_arrays(params))
    leaves = jax.tree.leaves(params)
    if not per_device:
        return sum(map(nbytes, leaves))
    held: dict[jax.Device | str, int] = {}
    for leaf in leaves:
        for device, size in _held(leaf):
            held[device] = held.get(device, 0) + size
    return held


def _held(leaf: Leaf) -> list[tuple[jax.Device | str, int]]:
    """Returns (device, bytes) of the parts of a leaf that are this process's."""
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return [(getattr(leaf, "place", "host"), nbytes(leaf))]
    if leaf.sharding is None:
        return [(jax.local_devices()[0], nbytes(leaf))]
    part = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    if leaf.sharding.memory_kind in HOST_KINDS:
        return [("host", part)] * len(leaf.sharding.addressable_devices)
    devices = sorted(leaf.sharding.addressable_devices, key=operator.attrgetter("id"))
    return [(device, part) for device in devices]


def summary(params: PyTree, depth: int = 3) -> str:
    """Returns a table, one row per module down to `depth` names: leaves, parameters, bytes, dtypes.

    Args:
        params: a tree of arrays or abstract leaves.
    """
    depth, modules = whole("depth", depth, 0), dict[str, list[Leaf | Weight]]()
    leaves = arrays_of(flatten(params))
    for path in sorted(leaves, key=natural):
        module = "/".join(path.split("/")[:-1][:depth])
        modules.setdefault(module or path, []).append(leaves[path])
    lines = [("module", "leaves", "parameters", "bytes", "dtype", "sharding")]
    for name, group in modules.items():
        dtypes, specs = sorted(set(map(dtype_text, group))), set(map(spec_text, group))
        spec = specs.pop() if len(specs) == 1 else "mixed"
        lines.append((name, *_sizes(group), "+".join(dtypes), spec))
    lines.append(("total", *_sizes(leaves.values()), "", ""))
    return format_table(lines)


def _sizes(leaves: Collection[Leaf | Weight]) -> tuple[str, str, str]:
    """Returns how many leaves there are, their numbers and their bytes."""
    count = sum(math.prod(leaf.shape) for leaf in leaves)
    return str(len(leaves)), f"{count:,}", format_size(sum(map(nbytes, leaves)))


def format_table(rows: list[tuple[str, ...]], numeric: tuple[int, ...] = (1, 2, 3)) -> str:
    """Returns rows of text as aligned columns, the first row underlined; safe to print."""
    rows = [tuple(map(_cell, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i in numeric else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text if text.isprintable() and len(text) <= _WIDEST else quoted(text)


def nbytes(leaf: Leaf | Weight) -> int:
    """Counts the bytes of one leaf, abstract or not; of a quantised one, as it is packed."""
    return leaf.nbytes if isinstance(leaf, Weight) else math.prod(leaf.shape) * leaf.dtype.itemsize


def dtype_text(leaf: Leaf | Weight) -> str:
    """Returns how the numbers of a leaf are held: its dtype, or the codes of a quantised one."""
    return leaf.held_as if isinstance(leaf, Weight) else str(leaf.dtype)


def spec_text(leaf: Leaf | Weight) -> str:
    """Returns the axes of the mesh that each dimension is on; nothing where there is no mesh."""
    spec = getattr(getattr(leaf, "sharding", None), "spec", None)
    return "" if spec is None else str(tuple(spec))
