"""Reconciling: which tensors of a source make which leaves of a template, and what is left over."""

import dataclasses
import re
from collections.abc import Container, Iterable, Mapping, Sequence

from ..errors import CheckpointError, quoted
from ..formats import Source, Tensor
from ..quantized.packed import share_of
from ..tree.layers import spellings
from ..tree.naming import FLAX, PATHS, PLAIN, TF, Naming, canonical
from ..tree.paths import flatten, matches
from ..tree.places import Place, constants, places
from ..types import Leaf, PyTree
from .match import Match, Mismatch, Piece, backbone_names
from .readings import Expected, Reading, best_reading
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
    asked = _Template(flatten(template), naming, prefix, tied)
    source, reading = _read(source, asked)
    wanted = asked.in_layout(source.layout, source.tensors)
    names = wanted.known({name: name for name in source.tensors})
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
            found[path] = tuple(_piece(*one) for one in there)
    used = {place.name for group in chosen.values() for place in group if place is not None}
    spare = {place.name for group in wanted.tied.values() for place in group}
    computed = names.keys() & wanted.constants
    twice = {
        path: tuple(_piece(*_stored(source, names[x.name], x, naming)) for x in group)
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


@dataclasses.dataclass(frozen=True)
class _Template:
    """The leaves of a template, and how checkpoints call them; arguments as `reconcile`."""

    leaves: Mapping[str, Leaf]
    naming: Naming
    prefix: str
    tied: Sequence[tuple[str, str]]

    def in_layout(self, layout: str, names: Iterable[str]) -> "_Wanted":
        """Tells where each leaf stands in a source of these names."""
        stacks = self.naming.stacks
        apart = spellings(names, stacks) != spellings(self.leaves, stacks)
        wanted = places(self.leaves, self.naming, layout, apart=apart)
        computed = frozenset(constants(self.leaves, self.naming, layout))
        return _Wanted(self, layout, wanted, self._tied_places(layout), computed)

    def _tied_places(self, layout: str) -> dict[str, tuple[Place, ...]]:
        found: dict[str, tuple[Place, ...]] = {}
        for absent, serving in self.tied:
            if absent in self.leaves or serving not in self.leaves:
                continue
            both = dict.fromkeys((serving, absent), self.leaves[serving])
            (own,), (other,) = places(both, self.naming, layout).values()
            if absent.endswith("/kernel") and not serving.endswith("/kernel"):
                # A head's kernel is the transpose of the embedding that serves it.
                other = other.turned()
            group = found.get(own.name, (own,))
            # PyTorch computes with the name that it copies from.
            is_copied = (absent, serving) in self.naming.copies
            found[own.name] = (other, *group) if is_copied else (*group, other)
        return found


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What a template asks of a source in one layout.

    Attributes:
        places: path of a leaf -> where its pieces stand.
        tied: name of a serving leaf -> all places where its tensor may stand; the first one that
            is there is taken.
        constants: names of what may be there beside the leaves, and is not read.
    """

    template: _Template
    layout: str
    places: Mapping[str, tuple[Place, ...]]
    tied: Mapping[str, tuple[Place, ...]]
    constants: frozenset[str]

    def chosen(self, path: str, names: Container[str]) -> list[Place | None]:
        """Returns the place of each piece of a leaf that is among `names`."""
        choices = (self.tied.get(place.name, (place,)) for place in self.places[path])
        return [next((x for x in choice if x.name in names), None) for choice in choices]

    def others(self, path: str, names: Container[str]) -> list[Place]:
        """Returns the places of a leaf's tensor under other names of its tie that are among
        `names`."""
        group = (x for place in self.places[path] for x in self.tied.get(place.name, ()))
        return [place for place in group if place.name in names]

    def known(self, names: Mapping[str, str]) -> dict[str, str]:
        """Returns `names` by today's spelling, and with the prefix of the backbone or without it as
        the template has it."""
        today = {new: names[old] for new, old in canonical(names, self.template.naming).items()}
        expected = {place.name for group in self.places.values() for place in group}
        template = self.template
        spellings = (template.prefix, *template.naming.prefixes) if template.prefix else ()
        return _with_prefix(today, expected | self.constants, spellings, self.layout)

    def expected(self) -> Expected:
        template = self.template
        shapes = {place.name: place.shape for group in self.places.values() for place in group}
        leaves = template.leaves
        backbone = backbone_names(leaves, leaves, template.prefix, template.naming)
        needed = tuple(
            tuple(other.name for other in self.tied.get(place.name, (place,)))
            for path in backbone
            for place in self.places[path]
        )
        return Expected(self.layout, shapes, needed, self.known)


def _read(source: Source, template: _Template) -> tuple[Source, Reading]:
    """Returns the source under the names, and in the layout, that fit the leaves best; how it was
    read."""
    layouts = [source.layout]
    if source.layout in (FLAX, PATHS):  # a tree of ours has old Flax's spelling of names
        layouts += [FLAX if source.layout == PATHS else PATHS]
    tensors = dict.fromkeys(layouts, source.tensors)
    if PATHS in tensors:
        tensors[PATHS] = as_layers(source.tensors, template.leaves, template.naming)
    choices = [template.in_layout(x, tensors[x]).expected() for x in layouts]
    reading = best_reading(tensors, choices, source.where)
    layout = reading.expected.layout
    by_new_name = {new: tensors[layout][name] for new, name in reading.names.items()}
    return dataclasses.replace(source, tensors=by_new_name, layout=layout), reading


def _stored(source: Source, name: str, place: Place, naming: Naming) -> tuple[Tensor, Place]:
    """Returns the tensor of a place, and the place as TensorFlow has it where it differs."""
    if source.layout == TF and matches(naming.tf_kernels_out_in, name):
        place = place.turned()
    return source[name], place


def _piece(tensor: Tensor, place: Place) -> Piece:
    tensor = tensor if place.part is None else share_of(tensor, place.part)
    return Piece(tensor, place.permutation, place.index)


def _with_prefix(
    names: dict[str, str], expected: set[str], prefixes: Sequence[str], layout: str
) -> dict[str, str]:
    """Returns `names` under the prefix that the template has, if any; `prefixes` are all spellings
    of it."""
    separator = "/" if layout in (FLAX, PATHS) else "."
    longest = sorted({re.sub("[./]", separator, p) + separator for p in prefixes}, key=len)[::-1]
    here = next((p for p in longest if any(n.startswith(p) for n in names)), "")
    there = next((p for p in longest if any(n.startswith(p) for n in expected)), "")
    if here == there:
        return names
    made: dict[str, str] = {}
    for name, where in names.items():
        moved = there + name.removeprefix(here) if name.startswith(here) else name
        moved = moved if moved in expected or not there else name
        if moved in made:
            kind = f"with {there[:-1]!r}" if there else f"without {here[:-1]!r}"
            raise CheckpointError(
                f"tensors {quoted(made[moved])} and {quoted(where)} both stand for "
                f"{quoted(moved)} in a model {kind}"
            )
        made[moved] = where
    return made
