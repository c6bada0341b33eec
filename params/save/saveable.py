"""What can be saved: which trees and leaves a writer takes, and what it says of others."""

import re
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jax.core import Tracer

from ..errors import CheckpointError, quoted
from ..tree.paths import flatten, path_of
from ..types import PyTree

_VARIANT = re.compile(r"[\w-]([\w.+-]*[\w-])?")
_LONGEST_VARIANT = 100


def saveable(params: PyTree, template: PyTree) -> PyTree:
    """Returns `params` as plain arrays: what `model.init` makes is taken out of {"params": ...} and
    out of linen's boxes.

    Raises:
        CheckpointError: leaves that hold no numbers: traced, abstract, deleted, or no arrays.
    """
    if _is_variables(params, template):
        params = params["params"]
    params = jax.tree.map(_unboxed, params, is_leaf=lambda node: isinstance(node, _Box))
    for key_path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if problem := _problem(leaf):
            path = path_of(key_path) or "what is to be saved"
            raise CheckpointError(f"{path} {problem}; nothing was written")
    return params


def check_variant(variant: str | None) -> None:
    """Raises `ValueError` for a variant that cannot be a part of a file's name,
    `model.<variant>.safetensors`."""
    if variant is None:
        return
    is_name = isinstance(variant, str) and _VARIANT.fullmatch(variant) is not None
    if not is_name or len(variant.encode()) > _LONGEST_VARIANT:
        raise ValueError(
            f"variant is {quoted(variant)}; it becomes part of file names, "
            'model.<variant>.safetensors: give letters, digits, "-", "_" and "." inside, such as '
            '"fp16"'
        )


def _is_variables(params: PyTree, template: PyTree) -> bool:
    """Tells whether these are the variables of `model.init`, of which the params are one."""
    is_only = hasattr(params, "keys") and list(params.keys()) == ["params"]
    return is_only and not any(path.startswith("params/") for path in flatten(template))


@runtime_checkable
class _Box(Protocol):
    """What linen puts a leaf with metadata into."""

    value: object

    def unbox(self) -> object: ...


def _unboxed(leaf: object) -> object:
    # Not box.unbox(): that of nn.Partitioned moves the value under a mesh.
    return _unboxed(leaf.value) if isinstance(leaf, _Box) else leaf


def _problem(leaf: object) -> str | None:
    if isinstance(leaf, Tracer):
        return (
            "is traced: inside jit, grad, vmap and their like there are no numbers to save; "
            "return the params and save them outside"
        )
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        return f"is a {type(leaf).__name__}, expected an array"
    if isinstance(leaf, jax.Array):
        if leaf.is_deleted():
            return "was deleted, or donated to a function (donate_argnums): keep what it returned"
        return None
    if isinstance(leaf, np.ma.MaskedArray):
        return "is a masked array, whose mask no format has; give leaf.filled(...)"
    if isinstance(leaf, np.ndarray | np.generic) or hasattr(leaf, "read"):
        return None
    kind = type(leaf).__name__
    if hasattr(leaf, "__array__"):
        return f"is a {kind}, expected an array of JAX or NumPy; give np.asarray(leaf)"
    return f"is abstract ({kind}): it has a shape, and no numbers to save"
