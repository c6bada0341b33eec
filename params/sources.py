"""Sources made of others, and of arrays."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from .errors import CheckpointError, quoted
from .formats import Source, Tensor
from .formats.source import ArrayTensor
from .names import FLAX, PATHS, layout_of
from .paths import flatten


def source_of(state: Mapping[str, Any], template: Any) -> Source:
    """A source of arrays in memory: {PyTorch name: array}, a tree with the paths of `template`, or
    one as old Flax has it.

    Raises:
        CheckpointError: a value that is no array.
    """
    nested = any(isinstance(value, Mapping) for value in state.values())
    flat = flatten(state) if nested else dict(state)
    tensors = {name: _tensor(name, value) for name, value in flat.items()}
    ours = nested and flat.keys() <= flatten(template).keys()
    return Source("state_dict", tensors, PATHS if ours else FLAX if nested else layout_of(tensors))


def _tensor(name: str, value: Any) -> Tensor:
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
