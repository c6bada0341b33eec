"""Matches: what of a template a source fills, and whether that will do."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Self

import jax.numpy as jnp

from ..errors import CheckpointError, quoted, some
from ..formats import Source, Tensor
from ..formats.diagnosis import of_shard
from ..tree.leaf_places import Part
from ..tree.naming import PLAIN, Naming
from ..tree.paths import flatten, matches
from ..types import PyTree


@dataclasses.dataclass(frozen=True)
class Piece:
    """One tensor's part in a leaf: `leaf[index] = tensor.transpose(permutation)`."""

    tensor: Tensor
    permutation: tuple[int, ...]
    index: tuple[int, ...]

    @classmethod
    def whole(cls, tensor: Tensor, index: tuple[int, ...] = ()) -> Self:
        """Returns the piece that is a tensor as it is stored."""
        return cls(tensor, tuple(range(len(tensor.shape))), index)


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """A tensor whose shape is not the one that the leaf, or the leaves that it holds, need."""

    path: str
    name: str
    found: tuple[int, ...]
    expected: tuple[int, ...]
    part: Part | None = None

    def __str__(self) -> str:
        said = f"{self.path}: {quoted(self.name)} has shape {self.found}, expected {self.expected}"
        if (part := self.part) is None:
            return said
        runs = f"in each of {part.groups} runs" if part.groups > 1 else f"along axis {part.axis}"
        return f"{said}, whose {part.start}:{part.stop} {runs} are the leaf's"


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
        joined: {path of a missing leaf: tensor that would hold it and others}.
        constants: names in the source that no leaf wants, because they are computed.
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
    joined: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: tuple[str, ...] = ()

    @property
    def fresh(self) -> tuple[str, ...]:
        """The paths of leaves that a load draws: missing ones, and those of another shape."""
        return (*self.missing, *(bad.path for bad in self.mismatched))

    def __repr__(self) -> str:
        return (
            f"Match({self.source.where!r}: {len(self.found)} leaves found, "
            f"{len(self.missing)} missing, {len(self.unexpected)} tensors unexpected, "
            f"{len(self.mismatched)} mismatched)"
        )


def identity_match(source: Source) -> Match:
    """Returns every tensor of a source as a leaf of its own, under the name that it has."""
    found = {name: (Piece.whole(tensor),) for name, tensor in source.tensors.items()}
    return Match(source, found, (), (), ())


def check_backbone(match: Match, prefix: str = "", naming: Naming = PLAIN) -> None:
    """Refuses what would give wrong answers: a backbone that is not all there, or that has more
    than the template. A head may be missing (it is initialised) or unused.

    Args:
        prefix: as in `reconcile`. Without one, everything is backbone.
        naming: tells what a good checkpoint may lack, or have in excess.

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
    lost = backbone_names(match.missing, [*match.found, *match.missing], prefix, naming)
    if lost:
        if text := of_shard(where) or _held_as_several(lost, match.source.tensors):
            hint += f"; {text}"
        lost = [f"{p} (of {quoted(match.joined[p])})" if p in match.joined else p for p in lost]
        raise CheckpointError(
            f"{where}: {len(lost)} leaves of the model are not in the checkpoint: {some(lost)}"
            f"{hint}; check that the config belongs to it, or pass strict=False to initialise them"
        )
    odd = backbone_names(match.unexpected, match.source.tensors, prefix, naming)
    if odd:
        raise CheckpointError(
            f"{where}: the model has no place for {len(odd)} tensors: {some(map(quoted, odd))}; "
            "check that the config belongs to it, or pass strict=False to leave them out"
        )


def _held_as_several(lost: Iterable[str], names: Iterable[str]) -> str:
    """Makes the sentence about weights that a whole tree holds with their adapters."""
    bases = {name.removesuffix("/base") for name in names if name.endswith("/base")}
    if bases.isdisjoint(lost):
        return ""
    return (
        "they are there with adapters: restore the tree with orbax itself, or save adapters and "
        "base as safetensors"
    )


def check_shapes(match: Match) -> None:
    """Raises `CheckpointError` if a tensor's shape is not its leaf's, with the first ten."""
    if match.mismatched:
        raise CheckpointError(
            f"{match.source.where}: {len(match.mismatched)} tensors do not fit (of the model's "
            f"{len(match.found)} others do): {some(match.mismatched)}; check the config, or pass "
            "ignore_mismatched_sizes=True to initialise these leaves"
        )


def check_numbers(match: Match, template: PyTree) -> None:
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


def backbone_names(
    names: Iterable[str], among: Iterable[str], prefix: str, naming: Naming
) -> list[str]:
    """Returns those of `names` that belong to the backbone of the model whose names are `among`."""
    prefixes = (prefix, *naming.prefixes) if prefix else ()
    starts = tuple(f"{spelling.replace('.', '/')}/" for spelling in prefixes)

    def prefixed(name: str) -> bool:
        return name.replace(".", "/").startswith(starts)

    headed = any(map(prefixed, among))
    others = (*naming.optional, *naming.head_paths)
    names = [name for name in names if not matches(others, name.replace(".", "/"))]
    return [name for name in names if prefixed(name) or not headed]
