"""What a template expects of a source: names, shapes and places of tensors, in one layout."""

import dataclasses
import functools
import re
from collections.abc import Container, Mapping, Sequence

from ..errors import CheckpointError, quoted
from ..formats import Tensor
from ..tree.layers import spellings
from ..tree.leaf_places import Place, constants, places
from ..tree.naming import FLAX, PATHS, Naming, canonical
from ..types import Leaf
from .match import backbone_names


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a template asks of a source in one layout.

    Attributes:
        prefixes: all spellings of the prefix of the backbone.
        tensors: those of the source, by its names.
        places: path of a leaf -> where its pieces stand.
        backbone: paths of the leaves that must be there.
        tied: name of a serving leaf -> all places where its tensor may stand; the first one that
            is there is taken.
        constants: names of what may be there beside the leaves, and is not read.
    """

    layout: str
    naming: Naming
    prefixes: Sequence[str]
    tensors: Mapping[str, Tensor]
    places: Mapping[str, tuple[Place, ...]]
    backbone: Sequence[str]
    tied: Mapping[str, tuple[Place, ...]]
    constants: frozenset[str]

    @property
    def separator(self) -> str:
        return "/" if self.layout in (FLAX, PATHS) else "."

    @property
    def names(self) -> dict[str, str]:
        """The names of the source as they are: each stands for itself."""
        return {name: name for name in self.tensors}

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, as it lies in the checkpoint, by its name."""
        return {place.name: place.shape for group in self.places.values() for place in group}

    @functools.cached_property
    def needed(self) -> list[list[str]]:
        """For each name of the backbone, the names of which one must be there."""
        wanted = (place for path in self.backbone for place in self.places[path])
        return [[x.name for x in self.tied.get(place.name, (place,))] for place in wanted]

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
        the template has it.

        Raises:
            CheckpointError: two of them become one.
        """
        today = {new: names[old] for new, old in canonical(names, self.naming).items()}
        expected, separator = self.shapes.keys() | self.constants, self.separator
        prefixes = {re.sub("[./]", separator, p) + separator for p in self.prefixes}
        longest = sorted(prefixes, key=len)[::-1]
        here = next((p for p in longest if any(n.startswith(p) for n in today)), "")
        there = next((p for p in longest if any(n.startswith(p) for n in expected)), "")
        if here == there:
            return today
        made: dict[str, str] = {}
        for name, where in today.items():
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


def expected_of(
    leaves: Mapping[str, Leaf],
    naming: Naming,
    prefix: str,
    tied: Sequence[tuple[str, str]],
    layout: str,
    tensors: Mapping[str, Tensor],
) -> Expected:
    """Returns what the leaves of a template ask of a source of these tensors; arguments as
    `reconcile`."""
    apart = spellings(tensors, naming.stacks) != spellings(leaves, naming.stacks)
    return Expected(
        layout,
        naming,
        (prefix, *naming.prefixes) if prefix else (),
        tensors,
        places(leaves, naming, layout, apart=apart),
        backbone_names(leaves, leaves, prefix, naming),
        _tied_places(leaves, naming, tied, layout),
        frozenset(constants(leaves, naming, layout)),
    )


def _tied_places(
    leaves: Mapping[str, Leaf], naming: Naming, tied: Sequence[tuple[str, str]], layout: str
) -> dict[str, tuple[Place, ...]]:
    found: dict[str, tuple[Place, ...]] = {}
    for absent, serving in tied:
        if absent in leaves or serving not in leaves:
            continue
        both = dict.fromkeys((serving, absent), leaves[serving])
        (own,), (other,) = places(both, naming, layout).values()
        if absent.endswith("/kernel") and not serving.endswith("/kernel"):
            # A head's kernel is the transpose of the embedding that serves it.
            other = other.turned()
        group = found.get(own.name, (own,))
        # PyTorch computes with the name that it copies from.
        is_copied = (absent, serving) in naming.copies
        found[own.name] = (other, *group) if is_copied else (*group, other)
    return found
