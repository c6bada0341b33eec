"""Sources made of arrays, and of other sources."""

import dataclasses
import re
from collections.abc import Mapping

import jax
import numpy as np
from jax.core import Tracer

from ..errors import CheckpointError, quoted, some, warn
from ..formats import Source, Tensor
from ..formats.source import ArrayTensor, Bounds
from ..quantized.packed import layer_of
from ..tree.layers import apart, spellings
from ..tree.naming import PATHS, Naming, layout_of
from ..tree.paths import compiled, flatten
from ..types import Leaf


class AbstractTensor(Tensor):
    """A tensor without numbers, for plans of what is not there."""

    def fill(self, out: np.ndarray, bounds: Bounds) -> None:
        raise CheckpointError(
            f"state_dict: {quoted(self.name)} is abstract: it can be planned with, and not read"
        )


def source_of(state: Mapping[str, object]) -> Source:
    """Returns a source of arrays in memory: {PyTorch name: array}, or a tree. Abstract arrays can
    be planned with, and not read.

    Raises:
        CheckpointError: a value that is no array.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"state_dict is a {type(state).__name__}; expected {{name: array}}, or a tree of arrays"
        )
    nested = any(isinstance(value, Mapping) for value in state.values())
    flat = flatten(state) if nested else {_joined(name): x for name, x in state.items()}
    tensors = {name: _tensor(name, value) for name, value in flat.items()}
    return Source("state_dict", tensors, PATHS if nested else layout_of(tensors))


def _replaced(pattern: str, replacement: str, name: str) -> str:
    try:
        return compiled(pattern).sub(replacement, name)
    except (re.error, IndexError, TypeError) as error:
        raise ValueError(f"key_mapping: {replacement!r} replaces nothing: {error}") from None


def _joined(name: str | tuple[str, ...]) -> str:
    """Returns a path that may be a tuple of names, as `flax.traverse_util.flatten_dict` has
    them."""
    return "/".join(map(str, name)) if isinstance(name, tuple) else str(name)


def as_layers(
    tensors: Mapping[str, Tensor], leaves: Mapping[str, Leaf], naming: Naming
) -> Mapping[str, Tensor]:
    """Returns the tensors of a tree, layers apart where they are not stacked as the leaves are."""
    wanted = spellings(leaves, naming.stacks)
    if not wanted or spellings(tensors, naming.stacks) == wanted:
        return tensors
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layers = apart(name, tensor.shape[0], naming.stacks) if tensor.shape else []
        for i, layer in enumerate(layers):
            found[layer] = layer_of(tensor, i, layer)
        if not layers:
            found[name] = tensor
    return found


def _tensor(name: str, value: object) -> Tensor:
    if isinstance(value, Tracer):
        raise CheckpointError(
            f"state_dict: {quoted(name)} is traced, and a load reads arrays: load outside of what "
            "is traced, or use the tree as params as it is"
        )
    if isinstance(value, jax.Array) and value.is_deleted():
        raise CheckpointError(f"state_dict: {quoted(name)} was deleted: its memory was donated")
    if isinstance(value, jax.ShapeDtypeStruct):
        return AbstractTensor(name, tuple(value.shape), np.dtype(value.dtype))
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except Exception as error:  # of any library
        raise CheckpointError(f"state_dict: {quoted(name)} is no array: {error}") from error
    if array.dtype == object:
        raise CheckpointError(f"state_dict: {quoted(name)} is no array: {type(value).__name__}")
    return ArrayTensor(name, tuple(array.shape), array.dtype, array=array)


def rename_tensors(source: Source, key_mapping: Mapping[str, str]) -> Source:
    """Returns `source` under other names: each pattern is replaced, in order, in each name.

    Args:
        key_mapping: {regular expression: replacement}.

    Raises:
        CheckpointError: two tensors come to have one name.
        TypeError: what is no mapping.
    """
    if not isinstance(key_mapping, Mapping):
        raise TypeError(
            f"key_mapping is {key_mapping!r:.80}; expected {{regular expression: replacement}}"
        )
    tensors: dict[str, Tensor] = {}
    idle = dict.fromkeys(key_mapping)
    for name, tensor in source.tensors.items():
        new = name
        for pattern, replacement in key_mapping.items():
            if compiled(pattern).search(new):
                idle.pop(pattern, None)
                new = _replaced(pattern, replacement, new)
        if new in tensors:
            raise CheckpointError(
                f"{source.where}: key_mapping calls both {quoted(tensors[new].name)} and "
                f"{quoted(name)} {quoted(new)}"
            )
        tensors[new] = tensor
    if idle:
        warn(f"{source.where}: key_mapping: {some(map(repr, idle))} found in no tensor's name")
    return dataclasses.replace(source, tensors=tensors)
