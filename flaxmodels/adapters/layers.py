"""Layers of adapters, on the host."""

from typing import Any

import jax
import numpy as np

from ..params.adapters.adapter import ALL, Adapter
from ..params.multihost import gather, is_spread
from ..params.types import Leaf
from .modules import Module, Piece


def of_layer(adapter: Adapter | None, piece: Piece, module: Module) -> Any:
    """Returns one layer of an adapter that acts on a module, with arrays on the host."""
    if adapter is None or ALL not in (adapter.part, module.part) and adapter.part != module.part:
        return None
    take = (lambda x: x) if piece.layer is None or not adapter.lead else lambda x: x[piece.layer]
    return jax.tree.map(lambda x: take(host(x)), adapter)


def host(array: Leaf) -> np.ndarray:
    """Returns an array as one of NumPy, put together of those of several processes."""
    return np.asarray(gather(array) if is_spread(array) else array)
