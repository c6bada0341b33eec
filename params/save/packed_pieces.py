"""Packed weights in a checkpoint: the pieces of their arrays, and what the config says of them."""

import dataclasses
from collections.abc import Iterator

from ..errors import CheckpointError
from ..quantized.codes import codes_of
from ..quantized.packed import FIELDS
from ..quantized.qtensor import Form, QTensor, check
from ..tree.leaf_places import Part, Place, places
from ..tree.naming import Naming
from ..tree.paths import flatten
from ..types import PyTree
from .leaf_pieces import LeafPiece


def array_pieces(piece: LeafPiece, separator: str) -> Iterator[LeafPiece]:
    """Yields the pieces of the arrays of a packed weight: each is stored as it is held, its name
    the weight's with "data", "scale", ... behind it.

    Raises:
        CheckpointError: a weight that is a part of a tensor, and whose blocks that would cut.
    """
    assert isinstance(piece.leaf, QTensor)
    yield from _pieces(piece.path, piece.leaf, _stored_place(piece), separator)


def form_in_file(form: Form, place: Place) -> Form:
    """Returns the form that a weight has in the tensor at `place`."""
    last = len(place.permutation) - 1
    swaps = last > 0 and place.permutation[-2:] == (last, last - 1)
    return dataclasses.replace(form, turned=form.turned ^ swaps)


def forms_in_file(params: PyTree, template: PyTree, naming: Naming, layout: str) -> dict[str, Form]:
    """Returns {name of a weight in a checkpoint of this layout: its form there} of those that are
    packed.

    Raises:
        ValueError: one whose arrays do not fit each other.
    """
    leaves = {path: leaf for path, leaf in flatten(params).items() if isinstance(leaf, QTensor)}
    if not leaves:
        return {}
    for path, leaf in leaves.items():
        check(leaf, path)
    where = places(flatten(template), naming, layout, apart=False)
    return {
        place.name: form_in_file(leaf.form, place)
        for path, leaf in leaves.items()
        for place in where[path]
    }


def _stored_place(piece: LeafPiece) -> Place:
    """Returns the place of a weight with its axes in the order in which its codes are stored."""
    place = piece.place
    assert isinstance(piece.leaf, QTensor)
    if not form_in_file(piece.leaf.form, place).turned:
        return place
    part, last = place.part, len(place.shape) - 1
    if part is not None and part.axis >= last - 1:
        part = dataclasses.replace(part, axis=2 * last - 1 - part.axis)
    shape = (*place.shape[:-2], place.shape[-1], place.shape[-2])
    return dataclasses.replace(place, shape=shape, part=part)


def _pieces(path: str, leaf: QTensor, place: Place, separator: str) -> Iterator[LeafPiece]:
    """Yields the pieces of the arrays of a weight whose numbers, as stored, are at `place`."""
    for key in FIELDS:
        if (field := getattr(leaf, key)) is None:
            continue
        inner = _place_of(leaf, key, place, f"{place.name}{separator}{key}")
        if isinstance(field, QTensor):
            yield from _pieces(f"{path}/{key}", field, inner, separator)
        else:
            yield LeafPiece(f"{path}/{key}", field, inner)


def _place_of(leaf: QTensor, key: str, place: Place, name: str) -> Place:
    """Returns the place of an array of a weight."""
    form, part = leaf.form, place.part
    if key == "data":
        codes = codes_of(form.codes)
        shape, units = form.packed(place.shape), (1, codes.group)
    elif key == "perm":
        shape, units = (*place.shape[:-2], place.shape[-1]), (-1, 1)
    else:
        shape, units = form.blocks(place.shape), form.block
    if part is not None:
        at = part.axis - len(place.shape)
        unit = units[at] if at >= -2 else 1
        run = place.shape[part.axis] // part.groups
        if unit < 0 or any(cut % unit for cut in (run, part.start, part.stop)):
            raise CheckpointError(
                f"{place.name} is joined of several leaves, and their {key} cannot be one tensor: "
                f'blocks of {form.block} would be cut; save with format="orbax", which keeps '
                "leaves apart; nothing was written"
            )
        if key == "data" and at == -1:
            part = Part(
                part.axis, part.groups, *map(codes_of(form.codes).packed, (part.start, part.stop))
            )
        elif key != "data":
            part = Part(part.axis, part.groups, part.start // unit, part.stop // unit)
    return Place.as_held(name, shape, place.index, part)
