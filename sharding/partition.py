"""Partitioning: which mesh axes each leaf of a template is split over, and which rules say so."""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import tree_structure

from .axes import PyTree, checked_axes, leaves_by_path
from .mesh import check_mesh, on_mesh, parts_of
from .presets import DEFAULT_RULES, PathRule, Rules
from .reports import LeafReport, Report
from .rules import as_rules, check_rules, target_of
from .uneven import (
    UNPADDED,
    Uneven,
    as_uneven,
    check_axes,
    check_pieces,
    choice_for,
    not_padded,
)


def place(
    template: PyTree,
    mesh: Mesh | AbstractMesh,
    rules: object = DEFAULT_RULES,
    *,
    uneven: object = "refuse",
    pieces: Mapping[str, int] | None = None,
) -> Report:
    """Decides where each leaf of a template is; arguments and errors as `shardings`."""
    mesh, rules, choices = check_mesh(mesh, abstract=True), as_rules(rules), as_uneven(uneven)
    check_rules(rules, template, mesh)
    check_axes(choices, rules)
    check_pieces(pieces, rules)
    rows = []
    for path, leaf in leaves_by_path(template).items():
        axes = getattr(leaf, "axes", None)
        if axes is None:
            raise ValueError(
                f"{path or 'template'}: {type(leaf).__name__} has no logical axes; pass "
                "model.abstract_params()"
            )
        placer = _Placer(path, mesh, rules, choices, pieces or {})
        rows.append(placer.leaf(axes, leaf.shape, np.dtype(leaf.dtype)))
    return Report(mesh, tuple(rows), tree_structure(template))


@dataclasses.dataclass(frozen=True)
class _Placer:
    """Decides where one leaf is."""

    path: str
    mesh: Mesh | AbstractMesh
    rules: Rules
    uneven: Uneven
    pieces: Mapping[str, int]

    def leaf(
        self, axes: tuple[str | None, ...], shape: tuple[int, ...], dtype: np.dtype
    ) -> LeafReport:
        targets, decided = self._targets(axes)
        taken: dict[str, str] = {}
        entries, stored, notes = [], [], []
        for axis, size, chosen in zip(axes, shape, targets, strict=True):
            for name in chosen:
                if name in taken:
                    raise ValueError(
                        f"{self.path}: logical axes {taken[name]!r} and {axis!r} are both on mesh "
                        f"axis {name!r}; give one of them another rule (or None to replicate it)"
                    )
                taken[name] = str(axis)
            chosen, size, note = self._dimension(axis, size, chosen, shape)
            entries.append(chosen[0] if len(chosen) == 1 else chosen or None)
            stored.append(size)
            notes += [note] if note else []
        sharding = NamedSharding(self.mesh, PartitionSpec(*entries))
        rule = (self.path, tuple(shape), dtype, axes, decided)
        return LeafReport(*rule, sharding, tuple(stored), tuple(notes))

    def _targets(
        self, axes: tuple[str | None, ...]
    ) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
        """Returns the mesh axes of each dimension, and the rules that name them."""
        for rule in self.rules:
            if isinstance(rule, PathRule) and rule.matches(self.path):
                found = [on_mesh(entry, self.mesh) for entry in rule.entries(axes, self.path)]
                return found, (f"{self.rules.index(rule)}: {rule!r}",)
        table = {axis: target_of(axis, self.rules, self.path) for axis in axes if axis}
        decided = (f"{self.rules.index(rule)}: {rule!r}" for rule in table.items())
        targets = (table[axis] if axis else None for axis in axes)
        return [on_mesh(target, self.mesh) for target in targets], tuple(decided)

    def _dimension(
        self, axis: str | None, size: int, chosen: tuple[str, ...], shape: tuple[int, ...]
    ) -> tuple[tuple[str, ...], int, str]:
        """Returns the mesh axes of a dimension, its size on the mesh, and what is to be said."""
        parts, choice = parts_of(chosen, self.mesh), choice_for(axis, self.uneven)
        pieces = self.pieces.get(str(axis), parts)
        whole = size % parts == 0
        if whole and pieces % parts == 0:
            return chosen, size, ""
        what = f"{pieces} {axis}" if whole else f"{axis} of size {size}"
        over = f"{what} over {', '.join(chosen)} of size {parts}"
        if choice == "replicate":
            return (), size, f"replicated: {over}"
        if whole:
            return chosen, size, f"split inside of them: {over}"
        if choice == "pad" and axis not in UNPADDED:
            padded = math.ceil(size / parts) * parts
            return chosen, padded, f"padded to {padded}: {over}"
        if choice == "pad":
            raise ValueError(f"{self.path}: {over}: {not_padded(str(axis))}")
        raise ValueError(
            f"{self.path}: dimension {axis!r} of size {size} (shape {tuple(shape)}) does not divide"
            f" over mesh axes {chosen} of size {parts}; choose another mesh, or replicate it "
            f"with the rule ({axis!r}, None), or with uneven={{{axis!r}: 'replicate'}}"
            + ("" if axis in UNPADDED else f", or pad it with uneven={{{axis!r}: 'pad'}}")
        )


def shardings(
    template: PyTree,
    mesh: Mesh | AbstractMesh,
    rules: object = DEFAULT_RULES,
    *,
    uneven: object = "refuse",
    pieces: Mapping[str, int] | None = None,
) -> PyTree:
    """Returns the tree of `NamedSharding` in which `template`'s parameters live on `mesh`.

    Args:
        template: tree of `AbstractParam`, such as `model.abstract_params()`.
        mesh: as `check_mesh` takes it; an abstract one will do.
        rules: as `as_rules` takes them.
        uneven: what becomes of dimensions that do not divide over the mesh axes of their rule, or a
            mapping {logical axis: that}: "refuse"; "replicate": whole on each device, with a
            warning; "pad": with zeros behind it, so that the shardings are of a larger shape
            (`place` says which). Heads are not padded.
        pieces: {logical axis: the number of pieces, such as heads, that its dimensions consist of};
            "replicate" does not split inside of one.

    Raises:
        TypeError: no mesh, or no rules.
        ValueError: what `check_mesh` and `check_rules` refuse; a leaf without axes, an axis without
            a rule, two dimensions of a leaf on one mesh axis, or a dimension that the mesh axes do
            not divide; with the leaf's path.
    """
    placed = place(template, mesh, rules, uneven=uneven, pieces=pieces)
    if lost := replicated(placed):
        warnings.warn(lost, stacklevel=2)
    return placed.shardings


def replicated(placed: Report) -> str:
    """Returns the warning about dimensions that were to be split and are replicated; "" without."""
    found = [note for note in placed.notes if ": replicated: " in note]
    if not found:
        return ""
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"does not divide, and is whole on each device: {found[0]}{more}"


def partition_spec(
    axes: tuple[str | None, ...],
    shape: tuple[int, ...],
    mesh: Mesh | AbstractMesh,
    rules: object,
    *,
    name: str = "",
) -> PartitionSpec:
    """Returns the spec of one array, one entry per dimension; raises as `shardings` does."""
    axes, mesh = checked_axes(axes, shape, f"{name or 'spec'}: "), check_mesh(mesh, abstract=True)
    placer = _Placer(name or "spec", mesh, as_rules(rules), "refuse", {})
    return placer.leaf(axes, shape, np.dtype(np.float32)).spec


def report(
    model: Any,
    mesh: Mesh | AbstractMesh,
    rules: object = None,
    *,
    uneven: object = None,
    plan: object = None,
) -> Report:
    """Returns where each leaf of a model is on a mesh: path, shape, dtype, logical axes, the rules
    that decided, spec, bytes a device, and copies; `print` it to see the table, with the totals.

    Args:
        model: a model, whose own rules and `uneven` count where these are None, or a tree of
            `AbstractParam`.
        mesh: an abstract one will do.
        plan: a load plan, whose leaves say how they are read.

    Raises:
        TypeError, ValueError: as `shardings`.
    """
    if isinstance(model, type):
        raise TypeError(f"{model.__name__} is a class; give a model, {model.__name__}(config)")
    is_model = hasattr(model, "abstract_params")
    if is_model:
        rules = model.rules if rules is None else rules
        uneven = model.uneven if uneven is None else uneven
    template = model.abstract_params() if is_model else model
    pieces = model.head_counts if is_model else None
    placed = place(template, mesh, rules, uneven=uneven, pieces=pieces)
    if plan is None:
        return placed
    leaves = getattr(plan, "leaves", None)
    if leaves is None:
        raise TypeError(f"plan is a {type(plan).__name__}; expected what load_plan returns")
    modes = {leaf.path: str(leaf.route) for leaf in leaves}
    rows = (dataclasses.replace(row, read_mode=modes.get(row.path)) for row in placed.rows)
    return dataclasses.replace(placed, rows=tuple(rows))
