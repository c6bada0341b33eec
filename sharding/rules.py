"""Rules: logical axes, or paths -> mesh axes; read, and refused where they act on nothing."""

import functools
from collections.abc import Iterable, Mapping, Set

from jax.sharding import AbstractMesh, Mesh

from .axes import leaves_by_path
from .mesh import check_mesh
from .presets import (
    ACTIVATIONS,
    DEFAULT_RULES,
    PRESETS,
    USUAL,
    AxisRule,
    PathRule,
    Rules,
    Target,
    as_target,
    names_of,
    nearest,
    preset,
)


def as_rules(rules: object) -> Rules:
    """Normalises rules: the name of a preset, or rules in any list or mapping; `DEFAULT_RULES` for
    None.

    Raises:
        TypeError: not (logical axis, mesh axis or several in a list or None), nor a `PathRule`;
            with the rule.
        ValueError: no such preset, or a rule that names a mesh axis twice.
    """
    if rules is None:
        return DEFAULT_RULES
    if isinstance(rules, str):
        return preset(rules)
    pairs = rules.items() if isinstance(rules, Mapping) else rules
    if isinstance(rules, Set):
        raise TypeError("rules is a set, which has no order, and the first rule of an axis wins")
    if isinstance(pairs, PathRule | bytes) or not isinstance(pairs, Iterable):
        raise TypeError(
            f"rules is {rules!r:.100}: expected pairs (logical axis, mesh axis), or the name of a "
            "preset"
        )
    return tuple(_rule(pair) for pair in pairs)


def _rule(rule: object) -> AxisRule | PathRule:
    if isinstance(rule, PathRule):
        return rule
    if isinstance(rule, tuple | list) and len(rule) == 2 and isinstance(rule[0], str):
        return rule[0], as_target(rule[1], rule)
    return str(rule), as_target(object(), rule)  # raises


@functools.lru_cache(maxsize=64)
def first_wins(rules: Rules) -> dict[str, Target]:
    """Returns {logical axis: its target}, by the first rule of each."""
    return dict(rule for rule in reversed(rules) if not isinstance(rule, PathRule))


def target_of(axis: str, rules: Rules, name: str) -> Target:
    """Returns what a logical axis is split over; `name` is whose it is, for the error.

    Raises:
        ValueError: no rule names it.
    """
    table = first_wins(rules)
    if axis not in table and axis in ACTIVATIONS:
        if (other := ACTIVATIONS[axis]) is None:
            return None
        axis = other
    if axis not in table:
        raise ValueError(
            f"{name}: no rule for logical axis {axis!r} (there are rules for "
            f"{', '.join(sorted(table))}); add ({axis!r}, None) to replicate it"
        )
    return table[axis]


def check_rules(rules: object, template: object, mesh: Mesh | AbstractMesh | None = None) -> None:
    """Refuses rules that act on nothing, and a mesh with axes that they leave unused.

    Args:
        template: tree of `AbstractParam`; a rule must name a logical axis of it, or one of the
            presets, and a path rule must match one of its leaves, if it has any.
        mesh: every axis of it that is longer than 1 must be named by a rule, and a rule's mesh
            axis must be on it, or one of the presets.

    Raises:
        ValueError: with the nearest name, or the rules that would do.
    """
    rules = as_rules(rules)
    leaves = leaves_by_path(template)
    logical = {axis for each in PRESETS.values() for axis, _ in each} | set(ACTIVATIONS)
    for leaf in leaves.values():
        logical |= {axis for axis in getattr(leaf, "axes", None) or () if axis is not None}
    for rule in rules:
        if isinstance(rule, PathRule):
            if leaves and not any(map(rule.matches, leaves)):
                raise ValueError(f"rules: {rule!r} matches no path{nearest(rule.pattern, leaves)}")
        elif rule[0] not in logical:
            raise ValueError(
                f"rules: no parameter and no activation has a logical axis {rule[0]!r}"
                f"{nearest(rule[0], logical)}; there are {', '.join(sorted(logical))}"
            )
    if mesh is not None:
        _check_mesh_axes(rules, check_mesh(mesh, abstract=True))


def _check_mesh_axes(rules: Rules, mesh: Mesh | AbstractMesh) -> None:
    named = set()
    for rule in rules:
        targets = rule.spec if isinstance(rule, PathRule) else rule[1:]
        for name in (name for target in targets for name in names_of(target)):
            named.add(name)
            if name not in mesh.axis_names and name not in USUAL:
                raise ValueError(
                    f"rules: {rule!r} names mesh axis {name!r}"
                    f"{nearest(name, mesh.axis_names)}; the mesh has "
                    f"{', '.join(mesh.axis_names)}; an axis that it may do without has size 1"
                )
    unused = [name for name, size in mesh.shape.items() if size > 1 and name not in named]
    if unused:
        raise ValueError(
            f"no rule names the mesh axes {', '.join(map(repr, unused))}: every param would be "
            f"whole on each of their devices. {_remedy(unused, mesh)}"
        )


def _remedy(unused: list[str], mesh: Mesh | AbstractMesh) -> str:
    """Returns what to write so that these axes of a mesh are used."""
    usual = {
        kind: name
        for name in unused
        for kind, others in USUAL.items()
        if name.lower() in others and kind not in mesh.axis_names
    }
    if len(usual) == len(unused):
        called = ", ".join(f"{kind}={name!r}" for kind, name in usual.items())
        names = {name: kind for kind, name in usual.items()}
        sizes = ", ".join(f"{names.get(name, name)}={n}" for name, n in mesh.shape.items())
        return (
            f"Give rules=flaxmodels.sharding.default_rules({called}), or call them as the rules "
            f"do: flaxmodels.sharding.make_mesh({sizes})"
        )
    batch = tuple(name for name in mesh.axis_names if name in ("data", "fsdp") or name in unused)
    return (
        "If that is what is wanted, and the batch is split over them, give "
        f'rules=(("batch", {batch!r}), *flaxmodels.sharding.DEFAULT_RULES); else add rules that '
        "put a logical axis on them"
    )
