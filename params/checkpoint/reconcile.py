"""Reconciling: which tensors of a source make which leaves of a template, and what is left over."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import CheckpointError, quoted
from ..formats import Source
from ..tree.naming import (
    FLAX,
    PATHS,
    PLAIN,
    TF,
    Naming,
    Place,
    canonical,
    is_looped,
    is_stacked,
    places,
)
from ..tree.paths import flatten, matches
from .match import Match, Mismatch, Piece, backbone_names
from .readings import Expected, Reading, best_reading
from .sources import as_layers


def reconcile(
    template: Any,
    source: Source,
    naming: Naming = PLAIN,
    *,
    prefix: str = "",
    tied: Sequence[tuple[str, str]] = (),
) -> Match:
    """Walks `template` and asks `source` for each leaf; reads headers only.

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
    source, reading = _read(source, leaves, naming, prefix, tied)
    wanted = _wanted(leaves, naming, source.layout, source.tensors)
    expected = {place.name for where in wanted.values() for place in where}
    tied_places = _tied_places(tied, leaves, naming, source.layout)
    names = _with_prefix(canonical(source.tensors, naming), expected, prefix, source.layout)
    found: dict[str, tuple[Piece, ...]] = {}
    missing, mismatched, used = [], [], set()
    for path, where in wanted.items():
        choices = (tied_places.get(place.name, (place,)) for place in where)
        first = (next((p for p in choice if p.name in names), None) for choice in choices)
        here = [place for place in first if place is not None]
        used |= {place.name for place in here}
        if len(here) != len(where):
            missing.append(path)
            continue
        pieces = tuple(_piece(source, names[place.name], place, naming) for place in here)
        wrong = [bad for piece in pieces if (bad := _mismatch(path, leaves[path].shape, piece))]
        if wrong:
            mismatched += wrong[:1]
        else:
            found[path] = pieces
    spare = {place.name for group in tied_places.values() for place in group}
    unexpected = tuple(sorted(names[name] for name in names.keys() - used - spare))
    named = _with_prefix(canonical(source.absent, naming), expected, prefix, source.layout)
    absent = {p: named[place.name] for p in missing for place in wanted[p] if place.name in named}
    twice = {}
    for path, where in wanted.items():
        others = [p for place in where for p in tied_places.get(place.name, ()) if p.name in names]
        others = [_piece(source, names[p.name], p, naming) for p in others if p.name not in used]
        if others and path in found:
            twice[path] = tuple(others)
    return Match(
        source,
        found,
        tuple(missing),
        unexpected,
        tuple(mismatched),
        absent,
        reading.said,
        twice,
        reading.hint,
    )


def _wanted(
    leaves: Mapping[str, Any], naming: Naming, layout: str, names: Iterable[str]
) -> dict[str, tuple[Place, ...]]:
    """Where each leaf stands in a source of these names."""
    apart = layout != PATHS or is_looped(names, naming.stack)
    return {
        path: places(path, leaf.shape, naming, layout, stacked=is_stacked(leaf) and apart)
        for path, leaf in leaves.items()
    }


def _read(
    source: Source,
    leaves: Mapping[str, Any],
    naming: Naming,
    prefix: str,
    tied: Sequence[tuple[str, str]],
) -> tuple[Source, Reading]:
    """The source under the names, and in the layout, that fit the leaves best; how it was read."""
    layouts = [source.layout]
    if source.layout in (FLAX, PATHS):  # a tree of ours has old Flax's spelling of names
        layouts += [FLAX if source.layout == PATHS else PATHS]
    tensors = {
        layout: as_layers(source.tensors, leaves, naming) if layout == PATHS else source.tensors
        for layout in layouts
    }
    choices = [_expected(leaves, naming, x, tensors[x], prefix, tied) for x in layouts]
    reading = best_reading(tensors, choices, source.where)
    layout = reading.expected.layout
    renamed = {new: tensors[layout][name] for new, name in reading.names.items()}
    return dataclasses.replace(source, tensors=renamed, layout=layout), reading


def _expected(
    leaves: Mapping[str, Any],
    naming: Naming,
    layout: str,
    names: Iterable[str],
    prefix: str,
    tied: Sequence[tuple[str, str]],
) -> Expected:
    wanted = _wanted(leaves, naming, layout, names)
    shapes = {
        place.name: _stored_shape(leaves[path].shape, place)
        for path, where in wanted.items()
        for place in where
    }
    tied_places = _tied_places(tied, leaves, naming, layout)
    backbone = backbone_names(leaves, leaves, prefix, naming.optional)
    needed = tuple(
        tuple(other.name for other in tied_places.get(place.name, (place,)))
        for path in backbone
        for place in wanted[path]
    )

    def known(names: dict[str, str]) -> dict[str, str]:
        today = {new: names[old] for new, old in canonical(names, naming).items()}
        return _with_prefix(today, set(shapes), prefix, layout)

    return Expected(layout, shapes, needed, known)


def _piece(source: Source, name: str, place: Place, naming: Naming) -> Piece:
    permutation = place.permutation
    if source.layout == TF and matches(naming.tf_kernels_out_in, name):
        permutation = permutation[::-1]
    return Piece(source[name], permutation, place.index)


def _tied_places(tied, leaves: Mapping[str, Any], naming: Naming, layout: str):
    """{name of the serving leaf: all places where its tensor may stand, the first that is there
    being taken}. A name that PyTorch copies from comes before the copy's: it computes with that."""
    found: dict[str, tuple[Place, ...]] = {}
    for absent, serving in tied:
        if absent in leaves or serving not in leaves:
            continue
        (own,) = places(serving, leaves[serving].shape, naming, layout, stacked=False)
        (other,) = places(absent, leaves[serving].shape, naming, layout, stacked=False)
        if absent.endswith("/kernel") and not serving.endswith("/kernel"):
            # A head's kernel is the transpose of the embedding that serves it.
            other = dataclasses.replace(other, permutation=other.permutation[::-1])
        group = found.get(own.name, (own,))
        found[own.name] = (other, *group) if (absent, serving) in naming.copies else (*group, other)
    return found


def _with_prefix(names: dict[str, str], expected: set[str], prefix: str, layout: str):
    """`names` with the prefix added or taken off where that is what the template expects."""
    if not prefix:
        return names
    prefix += "/" if layout in (FLAX, PATHS) else "."
    here = any(name.startswith(prefix) for name in names)
    there = any(name.startswith(prefix) for name in expected)
    if there and not here:
        return {prefix + n if prefix + n in expected else n: where for n, where in names.items()}
    if here and not there:
        return _without_prefix(names, prefix)
    return names


def _without_prefix(names: dict[str, str], prefix: str) -> dict[str, str]:
    stripped = {name.removeprefix(prefix): where for name, where in names.items()}
    if len(stripped) != len(names):
        both = next(name for name in names if prefix + name in names)
        raise CheckpointError(
            f"tensors {quoted(names[both])} and {quoted(names[prefix + both])} both stand for "
            f"{quoted(both)} in a model without {prefix!r}"
        )
    return stripped


def _mismatch(path: str, shape: tuple[int, ...], piece: Piece) -> Mismatch | None:
    expected = _stored_shape(shape, piece)
    if piece.tensor.shape == expected:
        return None
    return Mismatch(path, piece.tensor.name, piece.tensor.shape, expected)


def _stored_shape(shape: tuple[int, ...], where: Place | Piece) -> tuple[int, ...]:
    """That of the tensor which makes a leaf of this shape, or a layer of one."""
    inner = shape[len(where.index) :]
    stored = [0] * len(inner)
    for axis, size in zip(where.permutation, inner, strict=True):
        stored[axis] = size
    return tuple(stored)
