"""Reconciling: which tensors of a source make which leaves of a template, and what is left over."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from ..formats import Source, Tensor
from ..quantized.packed import share_of
from ..tree.leaf_places import Place
from ..tree.naming import FLAX, PATHS, PLAIN, TF, Naming
from ..tree.paths import flatten, matches
from ..types import Leaf, PyTree
from .expected import Expected, expected_of
from .match import Match, Mismatch, Piece
from .readings import Reading, best_reading
from .sources import as_layers


def reconcile(
    template: PyTree,
    source: Source,
    naming: Naming = PLAIN,
    *,
    prefix: str = "",
    tied: Sequence[tuple[str, str]] = (),
) -> Match:
    """Walks `template` and asks `source` for each leaf; reads no weights.

    Args:
        template: tree of abstract leaves; a leaf whose `axes[0]` is "layers" is a stack.
        naming: the family's exceptions to the naming rule.
        prefix: name under which the backbone sits in models with a head; added to or taken off
            the source's names where template and source differ.
        tied: (path without a leaf, path of the leaf that serves it): a source may hold either
            name, or both.

    Raises:
        CheckpointError: two names of the source mean the same leaf.
    """
    leaves = flatten(template)
    expects = functools.partial(expected_of, leaves, naming, prefix, tied)
    source, reading, wanted = _read(source, leaves, naming, expects)
    names = wanted.known(wanted.names)
    chosen = {path: wanted.chosen(path, names) for path in wanted.places}
    found: dict[str, tuple[Piece, ...]] = {}
    missing, mismatched = [], []
    for path, group in chosen.items():
        there = [_stored(source, names[x.name], x, naming) for x in group if x is not None]
        wrong = [(t, x) for t, x in there if t.shape != x.shape]
        if len(there) < len(group):
            missing.append(path)
        elif wrong:
            tensor, place = wrong[0]
            mismatched.append(Mismatch(path, tensor.name, tensor.shape, place.shape, place.part))
        else:
            found[path] = tuple(piece_at(*one) for one in there)
    used = {place.name for group in chosen.values() for place in group if place is not None}
    spare = {place.name for group in wanted.tied.values() for place in group}
    computed = names.keys() & wanted.constants
    twice = {
        path: tuple(piece_at(*_stored(source, names[x.name], x, naming)) for x in group)
        for path in found
        if (group := wanted.others(path, names.keys() - used))
    }
    named = wanted.known({name: name for name in source.absent})
    return Match(
        source,
        found,
        tuple(missing),
        tuple(sorted(names[name] for name in names.keys() - used - spare - computed)),
        tuple(mismatched),
        {p: named[x.name] for p in missing for x in wanted.places[p] if x.name in named},
        reading.said,
        twice,
        reading.hint,
        {p: x.name for p in missing for x in wanted.places[p][:1] if x.part is not None},
        tuple(names[name] for name in computed),
    )


def _read(
    source: Source,
    leaves: Mapping[str, Leaf],
    naming: Naming,
    expects: Callable[[str, Mapping[str, Tensor]], Expected],
) -> tuple[Source, Reading, Expected]:
    """Returns the source under the names, and in the layout, that fit the leaves best; how it was
    read; and what is asked of it then."""
    layouts = [source.layout]
    if source.layout in (FLAX, PATHS):  # a tree of ours has old Flax's spelling of names
        layouts += [FLAX if source.layout == PATHS else PATHS]
    choices = [
        expects(x, as_layers(source.tensors, leaves, naming) if x == PATHS else source.tensors)
        for x in layouts
    ]
    reading = best_reading(choices, source.where)
    expected = reading.expected
    by_new_name = {new: expected.tensors[name] for new, name in reading.names.items()}
    read = dataclasses.replace(source, tensors=by_new_name, layout=expected.layout)
    return read, reading, expects(read.layout, read.tensors)


def _stored(source: Source, name: str, place: Place, naming: Naming) -> tuple[Tensor, Place]:
    """Returns the tensor of a place, and the place as TensorFlow has it where it differs."""
    if source.layout == TF and matches(naming.tf_kernels_out_in, name):
        place = place.turned()
    return source[name], place


def piece_at(tensor: Tensor, place: Place) -> Piece:
    """Returns the piece of a leaf that a tensor, or a part of it, makes."""
    tensor = tensor if place.part is None else share_of(tensor, place.part)
    return Piece(tensor, place.permutation, place.index)
