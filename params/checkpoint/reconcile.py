"""Reconciling: which tensors of a source make which leaves of a template, and what is left over."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from ..errors import CheckpointError, quoted, some
from ..formats import Source, Tensor
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
from .readings import Expected, Reading, best_reading
from .sources import as_layers


@dataclasses.dataclass(frozen=True)
class Piece:
    """One tensor's part in a leaf: `leaf[index] = tensor.transpose(permutation)`."""

    tensor: Tensor
    permutation: tuple[int, ...]
    index: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """A tensor whose shape is not the leaf's."""

    path: str
    name: str
    found: tuple[int, ...]
    expected: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.path}: {quoted(self.name)} has shape {self.found}, expected {self.expected}"


@dataclasses.dataclass(frozen=True)
class Match:
    """What of a template a source fills.

    Attributes:
        found: path -> the pieces that make the leaf.
        missing: paths that nothing in the source makes.
        unexpected: names in the source that no leaf wants.
        mismatched: leaves whose tensor has another shape.
        absent: {path of a missing leaf: tensor that an index names for it, in vain}.
        said: by which rule the source's names were read, if not as they are.
        twice: path of a leaf -> other tensors of the source that the config says are the same: the
            names of a tie. Whether they are is seen when they are read.
        hint: how more of the source's names would fit, where they do not.
    """

    source: Source
    found: Mapping[str, tuple[Piece, ...]]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)
    said: str = ""
    twice: Mapping[str, tuple[Piece, ...]] = dataclasses.field(default_factory=dict)
    hint: str = ""

    def __repr__(self) -> str:
        return (
            f"Match({self.source.where!r}: {len(self.found)} leaves found, "
            f"{len(self.missing)} missing, {len(self.unexpected)} tensors unexpected, "
            f"{len(self.mismatched)} mismatched)"
        )


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
    backbone = _backbone(leaves, leaves, prefix, naming.optional)
    needed = tuple(
        tuple(other.name for other in tied_places.get(place.name, (place,)))
        for path in backbone
        for place in wanted[path]
    )

    def known(names: dict[str, str]) -> dict[str, str]:
        today = {new: names[old] for new, old in canonical(names, naming).items()}
        return _with_prefix(today, set(shapes), prefix, layout)

    return Expected(layout, shapes, needed, known)


def as_it_is(source: Source) -> Match:
    """Every tensor of a source as a leaf of its own, under the name that it has."""
    found = {
        name: (Piece(tensor, tuple(range(len(tensor.shape))), ()),)
        for name, tensor in source.tensors.items()
    }
    return Match(source, found, (), (), ())


def _piece(source: Source, name: str, place: Place, naming: Naming) -> Piece:
    permutation = place.permutation
    if source.layout == TF and matches(naming.tf_kernels_out_in, name):
        permutation = permutation[::-1]
    return Piece(source[name], permutation, place.index)


def check(match: Match, prefix: str = "", optional: tuple[str, ...] = ()) -> None:
    """Refuses what would give wrong answers: a backbone that is not all there, or that has more
    than the template. A head may be missing (it is initialised) or unused.

    Args:
        prefix: as in `reconcile`. Without one, everything is backbone.
        optional: patterns of leaves that a good checkpoint may lack, or have in excess.

    Raises:
        CheckpointError: with the first names of each kind.
    """
    where = match.source.where
    hint = f"; {match.hint}" if match.hint else ""
    if not match.found and not match.mismatched:
        raise CheckpointError(
            f"{where}: no tensor fits this model; it is another architecture's checkpoint: it "
            f"holds {some(map(quoted, match.source.tensors), 5)}; the model needs "
            f"{some(match.missing, 5)}{hint}"
        )
    for path, name in match.absent.items():
        raise CheckpointError(
            f"{match.source.absent[name]}: no tensor {quoted(name)}, which the index {where} says "
            f"is in it and which {path} of the model needs; get the file again, or pass "
            "strict=False to initialise what is not there"
        )
    lost = _backbone(match.missing, [*match.found, *match.missing], prefix, optional)
    if lost:
        raise CheckpointError(
            f"{where}: {len(lost)} leaves of the model are not in the checkpoint: {some(lost)}"
            f"{hint}; check that the config belongs to it, or pass strict=False to initialise them"
        )
    odd = _backbone(match.unexpected, match.source.tensors, prefix, optional)
    if odd:
        raise CheckpointError(
            f"{where}: the model has no place for {len(odd)} tensors: {some(map(quoted, odd))}; "
            "check that the config belongs to it, or pass strict=False to leave them out"
        )


def _backbone(
    names: Iterable[str], among: Iterable[str], prefix: str, optional: tuple[str, ...]
) -> list[str]:
    """Those of `names` that belong to the backbone of the model whose names are `among`."""

    def prefixed(name: str) -> bool:
        return re.split(r"[./]", name, maxsplit=1)[0] == prefix

    headed = any(map(prefixed, among))
    names = [name for name in names if not matches(optional, name.replace(".", "/"))]
    return [name for name in names if prefixed(name) or not headed]


def check_shapes(match: Match) -> None:
    """Raises `CheckpointError` if a tensor's shape is not its leaf's, with the first ten."""
    if match.mismatched:
        raise CheckpointError(
            f"{match.source.where}: {len(match.mismatched)} tensors do not fit (of the model's "
            f"{len(match.found)} others do): {some(match.mismatched)}; check the config, or pass "
            "ignore_mismatched_sizes=True to initialise these leaves"
        )


def check_numbers(match: Match, template: Any) -> None:
    """Raises `CheckpointError` if integers, bools or complex numbers are stored where the template
    has floating-point numbers. A plan would keep them, and a cast would hide what they are, such
    as codes of a quantisation."""
    leaves = flatten(template)
    for path, pieces in match.found.items():
        if not jnp.issubdtype(leaves[path].dtype, jnp.floating):
            continue
        for stored in (piece.tensor.dtype for piece in pieces):
            if not jnp.issubdtype(stored, jnp.floating):
                raise CheckpointError(
                    f"{match.source.where}: {path} is stored as {stored}, and the model computes "
                    "with floating-point numbers there; cast it first: x.astype(numpy.float32)"
                )


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


def stored_bytes(pieces: tuple[Piece, ...]) -> int:
    """Bytes that a leaf takes in the source."""
    return sum(math.prod(p.tensor.shape) * p.tensor.dtype.itemsize for p in pieces)
