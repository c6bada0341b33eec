"""Packed weights in the layouts of other libraries, which Transformers opens."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from ..errors import CheckpointError, some
from ..multihost import any_spread
from ..quantized.qtensor import Form, QTensor
from ..quantized.writers import bitsandbytes, fp8
from ..strict_json import Json
from ..tree.leaf_places import Place, places
from ..tree.naming import TORCH, Naming
from ..tree.paths import flatten, unflatten
from ..types import Concrete, PyTree
from .leaf_pieces import LeafPiece, by_tensor, read_tensor
from .packed_pieces import array_pieces


class _Writer(Protocol):
    """A layout of another library."""

    def config_of(self, forms: Collection[Form], dense: Collection[str]) -> dict[str, Json]: ...

    def tensors_of(self, module: str, weight: QTensor) -> Mapping[str, Concrete]: ...


_WRITERS: dict[str, _Writer] = {"bitsandbytes": bitsandbytes, "fp8": fp8}
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


def layout_pieces(pieces: Sequence[LeafPiece], method: str) -> Iterator[LeafPiece]:
    """Yields the pieces of packed weights in the layout of another library. Each is computed when
    it is written.

    Raises:
        CheckpointError: a weight that the layout cannot hold; with its path.
    """
    for parts in by_tensor(pieces).values():
        _check_parts(parts, method)
        # Only the codes are large: the shapes do not depend on them.
        made = _tensors(parts, method, with_data=False)
        for name, array in made.items():
            leaf = _Made(tuple(parts), method, name, array.shape, array.dtype)
            yield LeafPiece(parts[0].path, leaf, Place.as_held(name, array.shape))


def _check_parts(pieces: Sequence[LeafPiece], method: str) -> None:
    """Raises `CheckpointError` unless the leaves of one tensor can be one weight."""
    first, leaves = pieces[0], [piece.leaf for piece in pieces]
    if any_spread(leaves):
        raise CheckpointError(
            f"{first.path} is spread over processes, and {method}'s layout is written by one; "
            f"{_ADVICE}"
        )
    parts = [piece.place.part for piece in pieces if piece.place.part is not None]
    whole = sum(part.groups * (part.stop - part.start) for part in parts)
    forms = {leaf.form for leaf in leaves if isinstance(leaf, QTensor)}
    if len(forms) > 1 or (parts and whole < first.place.shape[parts[0].axis]):
        raise CheckpointError(
            f"{first.place.name} is joined of {some(piece.path for piece in pieces)} and its other "
            f"parts, which are not all quantised alike; {_ADVICE}"
        )


def layout_config(
    params: PyTree, template: PyTree, naming: Naming, method: str, head: str | None
) -> dict[str, Json]:
    """Returns the `quantization_config` of params in the layout of another library.

    Args:
        head: path of the output layer, which Transformers leaves as it is even where
            it is tied.

    Raises:
        CheckpointError: weights that it has no configuration for, or none that is quantised.
    """
    leaves = flatten(params)
    forms: list[Form] = [leaf.form for leaf in leaves.values() if isinstance(leaf, QTensor)]
    if not forms:
        raise CheckpointError(f"quant_method={method!r}: no weight is quantised; {_ADVICE}")
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

    pieces: tuple[LeafPiece, ...]
    method: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self) -> np.ndarray:
        return np.asarray(_tensors(self.pieces, self.method)[self.name])


def _tensors(
    pieces: Sequence[LeafPiece], method: str, *, with_data: bool = True
) -> Mapping[str, Concrete]:
    """Returns what a layer of another library stores of a weight."""
    first = pieces[0]
    named = by_tensor(array for piece in pieces for array in array_pieces(piece, "/"))
    fields = {name[len(first.place.name) + 1 :]: parts for name, parts in named.items()}
    arrays = {
        key: read_tensor(parts) for key, parts in fields.items() if with_data or key != "data"
    }
    if not with_data:
        codes = fields["data"][0]
        arrays["data"] = np.broadcast_to(np.zeros((), codes.leaf.dtype), codes.place.shape)
    assert isinstance(first.leaf, QTensor)
    try:
        module = first.place.name.removesuffix(".weight")
        return _WRITERS[method].tensors_of(module, QTensor.of(unflatten(arrays), first.leaf.form))
    except ValueError as error:
        raise CheckpointError(f"{first.path}: {error}; {_ADVICE}") from None
