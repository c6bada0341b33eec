"""Sources made of arrays, and of other sources."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from .errors import CheckpointError, quoted
from .formats import Source, Tensor
from .formats.source import ArrayTensor, LayerTensor
from .names import FLAX, PATHS, Naming, flax_name, is_looped, layer_path, layout_of
from .paths import flatten
from .placing import is_traced


def source_of(state: Mapping[str, Any]) -> Source:
    """A source of arrays in memory: {PyTorch name: array}, or a tree.

    Raises:
        CheckpointError: a value that is no array.
    """
    nested = any(isinstance(value, Mapping) for value in state.values())
    flat = flatten(state) if nested else dict(state)
    tensors = {name: _tensor(name, value) for name, value in flat.items()}
    return Source("state_dict", tensors, PATHS if nested else layout_of(tensors))


def fitted(source: Source, leaves: Mapping[str, Any], naming: Naming) -> Source:
    """A source of a tree, as the leaves want it: layers apart where they are stacked in it, or as
    one of old Flax's, if its names are rather that."""
    if source.layout != PATHS:
        return source
    names = source.tensors
    if all(name.startswith("params/") for name in names):
        names = {name.removeprefix("params/"): tensor for name, tensor in names.items()}
    here = {_without_index(name, naming.stack) for name in names}
    own = {_without_index(path, naming.stack) for path in leaves}
    if len(here & {flax_name(path, naming) for path in own}) > len(here & own):
        return dataclasses.replace(source, layout=FLAX)
    if naming.stack and is_looped(leaves, naming.stack):
        names = _unstacked(names, naming.stack)
    return dataclasses.replace(source, tensors=names)


def _unstacked(tensors: Mapping[str, Tensor], stack: str) -> dict[str, Tensor]:
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if f"/{stack}/" not in f"/{name}" or is_looped([name], stack) or not tensor.shape:
            apart[name] = tensor
            continue
        for i in range(tensor.shape[0]):
            layer = layer_path(name, stack, i)
            apart[layer] = LayerTensor(layer, tensor.shape[1:], tensor.dtype, (), tensor, i)
    return apart


def _without_index(path: str, stack: str) -> str:
    return re.sub(rf"(^|/){re.escape(stack)}/[0-9]+/", rf"\1{stack}/", path) if stack else path


def _tensor(name: str, value: Any) -> Tensor:
    if is_traced(value):
        raise CheckpointError(
            f"state_dict: {quoted(name)} is traced, and a load reads arrays: load outside of what "
            "is traced, or use the tree as params as it is"
        )
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except Exception as error:  # of whatever library the value is
        raise CheckpointError(f"state_dict: {quoted(name)} is no array: {error}") from error
    if array.dtype == object:
        raise CheckpointError(f"state_dict: {quoted(name)} is no array: {type(value).__name__}")
    return ArrayTensor(name, tuple(array.shape), array.dtype, (), array)


def renamed(source: Source, key_mapping: Mapping[str, str]) -> Source:
    """`source` under other names: each pattern is replaced, in order, in each name.

    Args:
        key_mapping: {regular expression: replacement}.

    Raises:
        CheckpointError: two tensors come to have one name.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in source.tensors.items():
        new = name
        for pattern, replacement in key_mapping.items():
            new = re.sub(pattern, replacement, new)
        if new in tensors:
            raise CheckpointError(
                f"{source.where}: key_mapping calls both {quoted(tensors[new].name)} and "
                f"{quoted(name)} {quoted(new)}"
            )
        tensors[new] = tensor
    return dataclasses.replace(source, tensors=tensors)
