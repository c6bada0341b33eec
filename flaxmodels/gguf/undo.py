"""What llama.cpp's converter did to tensors, undone while they are read; they stay packed."""

import numpy as np

from .. import params as fp
from ..params.errors import quoted
from ..params.formats import Tensor
from ..params.quantized.permuted import plus, rows_of, transposed
from .keys import Keys


def query_rows(tensor: Tensor, keys: Keys) -> Tensor:
    """Puts the rows of queries back: those of a head that turn against each other lie together in
    the file, and half a head apart in PyTorch's."""
    return _halved(tensor, keys, keys.heads)


def key_rows(tensor: Tensor, keys: Keys) -> Tensor:
    """Puts the rows of keys back, as `query_rows`."""
    return _halved(tensor, keys, keys.kv_heads)


def plus_one(tensor: Tensor, keys: Keys) -> Tensor:
    """Takes 1 off the scales of norms, computed in float32."""
    return plus(tensor, -1.0)


def transposition(tensor: Tensor, keys: Keys) -> Tensor:
    """Transposes a weight that PyTorch stores as (in, out); a bias stays."""
    return transposed(tensor) if len(tensor.shape) == 2 else tensor


def grouped_qkv(tensor: Tensor, keys: Keys) -> Tensor:
    """Puts the queries of each key-value head, its key and its value together again: the file has
    all queries first, then keys, then values."""
    groups, per_group = keys.kv_heads, keys.heads // keys.kv_heads
    dim = _rows_each(tensor, keys, groups * (per_group + 2), "heads of queries, keys and values")
    heads = np.arange(groups * per_group).reshape(groups, per_group)
    others = np.arange(groups)[:, None] + groups * per_group
    order = np.concatenate([heads, others, others + groups], axis=1).ravel()
    return rows_of(tensor, (order[:, None] * dim + np.arange(dim)).ravel())


def _halved(tensor: Tensor, keys: Keys, heads: int) -> Tensor:
    dim = 2 * _rows_each(tensor, keys, 2 * heads, "halves of heads")
    rows = np.arange(heads * dim).reshape(heads, dim // 2, 2)
    return rows_of(tensor, rows.swapaxes(1, 2).ravel())


def _rows_each(tensor: Tensor, keys: Keys, count: int, what: str) -> int:
    """Returns how many rows each of `count` parts has."""
    rows = tensor.shape[0] if tensor.shape else 0
    if rows % count or not rows:
        raise fp.CheckpointError(
            f"{keys.gguf.path}: tensor {quoted(tensor.name)} has {rows} rows, expected a multiple "
            f"of {count}, the {what} in the metadata"
        )
    return rows // count
