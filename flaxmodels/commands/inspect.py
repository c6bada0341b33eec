"""Inspecting: what a checkpoint holds, from its headers, as a table or a page for a browser."""

import html
import math
import os
import re
import warnings
from collections.abc import Mapping

import jax
from jax.sharding import AbstractMesh, AxisType

from .. import params as fp
from ..auto import load_plan
from ..hub import resolve
from ..params.checkpoint.leaf_plan import LeafPlan
from ..params.scalars import whole
from ..params.sizes import format_size
from ..params.tree.measure import format_table, nbytes, spec_text
from ..params.tree.paths import natural

_SIZE = re.compile("[1-9][0-9]{0,8}")
Leaves = Mapping[str, jax.ShapeDtypeStruct]


def leaves_of(name_or_path: str | os.PathLike, *, mesh: AbstractMesh | None = None) -> Leaves:
    """Returns {path: abstract leaf} of a checkpoint, in a reader's order; no weight is read.

    Without a mesh, no `config.json` is needed, and the leaves are the file's own tensors, dots in
    their names as slashes. With one, they are the model's, with their shardings.

    Args:
        name_or_path: a folder, a weights file or a repository, as `from_pretrained` takes it.

    Raises:
        fp.CheckpointError: a checkpoint that cannot be read, or, for a mesh, without a config.
        ValueError: a mesh that does not fit the model.
    """
    if mesh is not None:
        plan = load_plan(name_or_path, mesh=mesh)
        leaves = {leaf.path: _abstract(leaf, leaf.sharding) for leaf in plan.leaves}
    else:
        source = resolve(name_or_path).open()
        dotted = source.layout in ("torch", "tf")
        leaves = {
            name.replace(".", "/") if dotted else name: _abstract(tensor)
            for name, tensor in source.tensors.items()
        }
    return {path: leaves[path] for path in sorted(leaves, key=natural)}


def parse_mesh(text: str) -> AbstractMesh:
    """Returns the mesh of "fsdp=4,tensor=2", without its devices.

    Raises:
        ValueError: something else.
    """
    axes = [axis.split("=") for axis in text.split(",")]
    sizes = {axis[0]: int(axis[1]) for axis in axes if axis[1:] and _SIZE.fullmatch(axis[1])}
    if len(sizes) < len(axes) or "" in sizes or any(len(axis) != 2 for axis in axes):
        raise ValueError(f"mesh is {text!r}; expected axes and sizes, such as fsdp=4,tensor=2")
    auto = (AxisType.Auto,) * len(sizes)
    return AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=auto)


def table(leaves: Leaves, depth: int | None = None) -> str:
    """Returns a row per leaf, or per module down to `depth` names, and their total."""
    if depth is not None:
        return fp.summary(leaves, whole("depth", depth))
    sharded = any(leaf.sharding is not None for leaf in leaves.values())
    head = ("module", "shape", "dtype", "bytes")
    rows: list[tuple[str, ...]] = [head + ("sharding", "bytes per device") * sharded]
    for path, leaf in leaves.items():
        row = (path, str(leaf.shape), str(leaf.dtype), format_size(nbytes(leaf)))
        rows.append(row + (spec_text(leaf), format_size(_shard_bytes(leaf))) * sharded)
    size, count = sum(map(nbytes, leaves.values())), fp.num_parameters(leaves)
    total = ("total", f"{count:,}", "", format_size(size))
    per_device = sum(map(_shard_bytes, leaves.values()))
    rows.append(total + ("", format_size(per_device)) * sharded)
    return format_table(rows, numeric=(3, 5) if sharded else (3,))


def page(tree: fp.PyTree, title: str) -> str:
    """Returns a self-contained HTML page that shows a tree by the shapes, dtypes and shardings of
    its leaves, whose values are not read; needs treescope (`pip install flaxmodels[inspect]`)."""
    import treescope

    leaves = {
        path: _abstract(leaf, getattr(leaf, "sharding", None))
        for path, leaf in fp.flatten(tree).items()
    }
    leaves = {path: leaves[path] for path in sorted(leaves, key=natural)}
    try:
        nested = fp.unflatten(leaves)
    except ValueError:  # one tensor's name is another's module
        nested = leaves
    with warnings.catch_warnings(), treescope.using_expansion_strategy(max_height=_PAGE_LINES):
        # treescope looks at every name of NumPy, the deprecated ones too.
        warnings.simplefilter("ignore", DeprecationWarning)
        body = treescope.render_to_html(nested)
    title = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"</head><body><h1>{title}</h1>\n<pre>{html.escape(table(leaves, _PAGE_DEPTH))}</pre>\n"
        f"{body}\n</body></html>\n"
    )


_PAGE_LINES = 200  # that are open when the page is
_PAGE_DEPTH = 2


def _abstract(
    leaf: LeafPlan | fp.Tensor, sharding: jax.sharding.Sharding | None = None
) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _shard_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    return math.prod(shape) * leaf.dtype.itemsize
