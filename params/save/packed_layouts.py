"""Packed weights in the layouts of other libraries, which Transformers opens."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import CheckpointError
from ..multihost import is_spread
from ..quantized.qtensor import Form, QTensor
from ..quantized.writers import bitsandbytes, fp8
from ..strict_json import Json
from ..tree.naming import TORCH, Naming
from ..tree.paths import flatten, unflatten
from ..tree.places import Place, places
from ..types import PyTree
from .leaf_pieces import LeafPiece
from .packed_pieces import array_pieces

_WRITERS: dict[str, Any] = {"bitsandbytes": bitsandbytes, "fp8": fp8}
OURS = "flaxmodels"
METHODS = (OURS, *_WRITERS)
"""Layouts of quantised weights that are written."""

_ADVICE = "leave quant_method out, which writes a layout of flaxmodels' own; nothing was written"


def check_method(method: str, layout: str) -> None:
    """Raises `ValueError` unless weights are written in a layout, under names of `layout`."""
    if method not in METHODS:
        raise ValueError(f"quant_method is {method!r}; what can be written is {', '.join(METHODS)}")
    if method != OURS and layout != TORCH:
        raise ValueError(
            f"quant_method={method!r} is for PyTorch's names; save safetensors, or leave it out"
        )


def layout_pieces(piece: LeafPiece, method: str) -> Iterator[LeafPiece]:
    """Yields the pieces of a packed weight in the layout of another library. Each is computed when
    it is written.

    Raises:
        CheckpointError: a weight that the layout cannot hold; with its path.
    """
    if piece.place.part is not None:
        raise CheckpointError(
            f"{piece.path} is a part of {piece.place.name}, whose parts {method} cannot have "
            f"quantised apart; {_ADVICE}"
        )
    arrays = [*array_pieces(piece, "/")]
    if any(is_spread(array.leaf) for array in arrays):
        raise CheckpointError(
            f"{piece.path} is spread over processes, and {method}'s layout is written by one; "
            f"{_ADVICE}"
        )
    # Only the codes are large: the shapes do not depend on them.
    made = _tensors(piece, method, with_data=False)
    for name, array in made.items():
        leaf: Any = _Made(piece, method, name, array.shape, array.dtype)
        yield LeafPiece(piece.path, leaf, Place(name, array.shape, (*range(array.ndim),)))


def layout_config(
    params: PyTree, template: PyTree, naming: Naming, method: str, head: str | None
) -> dict[str, Json] | None:
    """Returns the `quantization_config` of params in the layout of another library; None if nothing
    is quantised.

    Args:
        head: path of the output layer, which Transformers leaves as it is even where
            it is tied.

    Raises:
        CheckpointError: weights that it has no configuration for.
    """
    leaves = flatten(params)
    forms: list[Form] = [leaf.form for leaf in leaves.values() if isinstance(leaf, QTensor)]
    if not forms:
        return None
    where = places(flatten(template), naming, TORCH, apart=False)
    dense = {
        place.name.removesuffix(".weight")
        for path, leaf in leaves.items()
        if path.endswith("/kernel") and not isinstance(leaf, QTensor)
        for place in where[path]
    }
    if head is not None and f"{head}/kernel" not in leaves:
        dense.add(head.replace("/", "."))
    try:
        return _WRITERS[method].config_of(forms, dense)
    except ValueError as error:
        raise CheckpointError(f"{error}; {_ADVICE}") from None


@dataclasses.dataclass(frozen=True)
class _Made:
    """A tensor of a layout, as a leaf that is still to be read."""

    piece: LeafPiece
    method: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self) -> np.ndarray:
        return np.asarray(_tensors(self.piece, self.method)[self.name])


def _tensors(piece: LeafPiece, method: str, *, with_data: bool = True) -> Mapping[str, Any]:
    """Returns what a layer of another library stores of a weight."""
    name = piece.place.name
    arrays: dict[str, np.ndarray] = {}
    for array in array_pieces(piece, "/"):
        key, place = array.place.name[len(name) + 1 :], array.place
        if key == "data" and not with_data:
            arrays[key] = np.broadcast_to(np.zeros((), array.leaf.dtype), place.shape)
        else:
            arrays[key] = array.read()
    assert isinstance(piece.leaf, QTensor)
    try:
        module = name.removesuffix(".weight")
        return _WRITERS[method].tensors_of(module, _value(unflatten(arrays), piece.leaf.form))
    except ValueError as error:
        raise CheckpointError(f"{piece.path}: {error}; {_ADVICE}") from None


def _value(arrays: Mapping[str, Any], form: Form) -> QTensor:
    inner = {"scale": form.scale, "offset": form.offset}
    fields = {
        key: array if (of := inner.get(key)) is None else _value(array, of)
        for key, array in arrays.items()
    }
    return QTensor(**fields, form=form)
