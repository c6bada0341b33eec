"""Casting: the dtype of a tree's floating-point leaves, all of them or those a mask selects."""

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import KeyPath, tree_flatten_with_path, tree_map_with_path

from ..host.kernels import cast_leaf
from ..types import Leaf, PyTree
from .masks import Mask, as_mask
from .paths import check_alive, matches, nearest, path_of
from .weights import Weight, is_weight

DtypeLike = jax.typing.DTypeLike
DTYPES = {
    name: jnp.dtype(name)
    for name in (
        "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3b11fnuz "
        "float8_e4m3fnuz float8_e5m2fnuz"
    ).split()
}
_SHORT = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "half": "float16"}


@runtime_checkable
class InFile(Protocol):
    """A leaf that is read when it is computed with."""

    @property
    def dtype(self) -> np.dtype: ...
    def read(self) -> np.ndarray: ...
    def astype(self, dtype: np.dtype) -> "InFile": ...


def parse_dtype(dtype: DtypeLike) -> np.dtype:
    """Returns the floating-point dtype that a name ("bfloat16", "bf16", "torch.bfloat16") or type
    means.

    Raises:
        ValueError: it means none; the known names are listed.

    >>> parse_dtype("bf16")
    dtype(bfloat16)
    """
    if str(dtype).startswith("torch."):
        dtype = str(dtype)
    if isinstance(dtype, str):
        name = dtype.removeprefix("torch.")
        name = _SHORT.get(name, name)
        if name in DTYPES:
            return DTYPES[name]
    elif dtype is not None:  # which NumPy takes for float64
        try:
            known = jnp.dtype(dtype)
        except (TypeError, ValueError):
            known = None
        if known is not None and jnp.issubdtype(known, jnp.floating):
            return known
    raise ValueError(f"unknown dtype {dtype!r}; known: {', '.join([*DTYPES, *_SHORT])}")


def at_least_float32(dtype: DtypeLike) -> np.dtype:
    """Returns the dtype that sums and norms of numbers of `dtype` are computed in. By NumPy's rule:
    JAX's own refuses 16 bits beside 32 under strict dtype promotion."""
    return np.promote_types(np.dtype(dtype), np.float32)


def dtype_for(
    dtypes: DtypeLike | Mapping[str, DtypeLike], path: str, stored: DtypeLike
) -> np.dtype:
    """Returns the dtype that a leaf at `path` gets: "auto" keeps `stored`; of an ordered `{regular
    expression: dtype}` the first that matches decides, and none keeps `stored`."""
    stored = jnp.dtype(stored)
    if not jnp.issubdtype(stored, jnp.floating):
        return stored
    if isinstance(dtypes, Mapping):
        found = (dtype for pattern, dtype in dtypes.items() if matches((pattern,), path))
        dtypes = next(found, "auto")
    return stored if isinstance(dtypes, str) and dtypes == "auto" else parse_dtype(dtypes)


def check_patterns(
    said: str, dtypes: DtypeLike | Mapping[str, object], paths: Collection[str]
) -> None:
    """Refuses a regular expression of `{regular expression: dtype}` that matches no path.

    Args:
        said: the argument's name, for the error.

    Raises:
        ValueError: with the nearest path.
    """
    for pattern in dtypes if isinstance(dtypes, Mapping) else ():
        if not any(matches((pattern,), path) for path in paths):
            near = nearest(pattern, paths)
            raise ValueError(f"{said}: pattern {pattern!r} matches no path{near}")


def cast(params: PyTree, dtype: DtypeLike | Mapping[str, DtypeLike], mask: Mask = True) -> PyTree:
    """Returns a new tree with the floating-point leaves that `mask` selects in `dtype`.

    Integer, boolean and key leaves are never cast, nor are codes and scales of a quantised weight:
    its logical dtype changes, in which a model gets its numbers. A leaf that already has the dtype,
    or is not selected, is the same object, not a copy. NumPy leaves stay on the host, abstract
    leaves stay abstract, sharded leaves keep their sharding; works under `jit`.

    Args:
        dtype: a dtype, its name, "auto" (as it is), or an ordered `{regular expression: dtype}`.
        mask: `True`, a (prefix) tree of bools, or `predicate(path, leaf)`.

    Raises:
        ValueError: an unknown dtype, a pattern that matches no path, or a mask that does not fit.

    >>> tree = {"norm": {"scale": np.ones(2, np.float32)}, "kernel": np.ones(2, np.float32)}
    >>> half = cast(tree, "bfloat16", lambda path, leaf: "norm" not in path)
    >>> str(half["kernel"].dtype), half["norm"]["scale"] is tree["norm"]["scale"]
    ('bfloat16', True)
    """
    for wanted in dtype.values() if isinstance(dtype, Mapping) else [dtype]:
        if not (isinstance(wanted, str) and wanted == "auto"):
            parse_dtype(wanted)
    if isinstance(dtype, Mapping):
        leaves, _ = tree_flatten_with_path(params, is_leaf=is_weight)
        check_patterns("dtype", dtype, [path_of(key_path) for key_path, _ in leaves])

    def one(key_path: KeyPath, leaf: Leaf | Weight | InFile, selected: bool) -> object:
        dtype_of = getattr(leaf, "dtype", None)
        if not selected or dtype_of is None or not jnp.issubdtype(dtype_of, jnp.floating):
            return leaf
        wanted = dtype_for(dtype, path_of(key_path), leaf.dtype)
        if leaf.dtype == wanted:
            return leaf
        if not isinstance(leaf, jax.ShapeDtypeStruct) and isinstance(leaf, Weight | InFile):
            return leaf.astype(wanted)
        check_alive({path_of(key_path): leaf})
        return cast_leaf(leaf, wanted)

    return tree_map_with_path(one, params, as_mask(mask, params), is_leaf=is_weight)


def to_bf16(params: PyTree, mask: Mask = None) -> PyTree:
    """Casts to bfloat16: for TPUs, or to halve the memory of params kept for inference."""
    return cast(params, jnp.bfloat16, mask)


def to_fp16(params: PyTree, mask: Mask = None) -> PyTree:
    """Casts to float16, for GPUs. Magnitudes above 65504 become infinite."""
    return cast(params, jnp.float16, mask)


def to_fp32(params: PyTree, mask: Mask = None) -> PyTree:
    """Casts to float32: full precision."""
    return cast(params, jnp.float32, mask)
