"""Presets: the usual ways to spread a model over a mesh, as rules with names."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Set
from typing import TypeAlias

Target: TypeAlias = str | tuple[str, ...] | None
"""What a dimension is split over: a mesh axis, several, or none."""


@dataclasses.dataclass(frozen=True)
class PathRule:
    """Splits the leaves at some paths, whatever logical axes they have.

    Of all rules that speak of a leaf, the first path rule that matches decides; rules of logical
    axes, wherever they stand, decide for the other leaves, and for activations.

    Attributes:
        pattern: a regular expression that is found in the path, as everywhere in the library:
            `r"/q_proj/kernel$"`.
        spec: a mesh axis, several or None for each dimension; for the layers of a stacked leaf it
            may be left out, so that one rule serves looped and scanned models. `()` does not split
            the leaf, whatever its rank.

    Raises:
        ValueError: a pattern that is no regular expression, or a mesh axis named twice.
        TypeError: a spec that names no mesh axes.
    """

    pattern: str
    spec: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        try:
            if not isinstance(self.pattern, str):
                raise TypeError(f"it is a {type(self.pattern).__name__}")
            re.compile(self.pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"PathRule: {self.pattern!r} is no regular expression: {error}"
            ) from None
        if isinstance(self.spec, str | Mapping | Set) or not isinstance(self.spec, Iterable):
            raise TypeError(
                f"{self}: a spec has an entry for each dimension, such as (None, 'tensor')"
            )
        spec = tuple(as_target(entry, self) for entry in self.spec)
        names = [name for entry in spec for name in names_of(entry)]
        if len(set(names)) < len(names):
            raise ValueError(f"{self} names a mesh axis twice")
        object.__setattr__(self, "spec", spec)

    def __repr__(self) -> str:
        return f"PathRule({self.pattern!r}, {self.spec!r})"

    def matches(self, path: str) -> bool:
        """Tells whether the rule speaks of the leaf at `path`."""
        return re.search(self.pattern, path) is not None

    def entries(self, axes: tuple[str | None, ...], path: str) -> tuple[Target, ...]:
        """Returns the spec for a leaf whose dimensions have the logical `axes`.

        Raises:
            ValueError: it has another number of dimensions.
        """
        if not self.spec:
            return (None,) * len(axes)
        layers = 1 if axes[:1] == ("layers",) and len(self.spec) == len(axes) - 1 else 0
        if len(self.spec) + layers != len(axes):
            raise ValueError(
                f"{path}: {self!r} has {len(self.spec)} entries, and the leaf {len(axes)} "
                f"dimensions, {axes}"
            )
        return (*(None,) * layers, *self.spec)


AxisRule: TypeAlias = tuple[str, Target]
Rules: TypeAlias = tuple[AxisRule | PathRule, ...]

DEFAULT_RULES: tuple[AxisRule, ...] = (
    ("vocab", "tensor"),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("embed", "fsdp"),
    ("layers", None),
    ("position", None),
    ("window", None),
    ("norm", None),
    ("labels", None),
    # activations
    ("batch", ("data", "fsdp")),
    ("length", None),
    ("hidden", None),
)
"""Ordered (logical axis, mesh axis or axes): tensor parallelism over what is computed side by
side, fully sharded data parallelism over the model dimension. A mesh axis that the mesh does not
have counts as absent, so that the same rules serve `make_mesh(fsdp=-1)` and a full pod. The first
rule of an axis wins: change one with `(("vocab", None), *DEFAULT_RULES)`. `default_rules` renames
the mesh axes."""

USUAL = {
    "data": ("dp", "batch", "replica", "data_parallel"),
    "fsdp": ("zero", "shard", "sharded", "fully_sharded"),
    "expert": ("ep", "experts", "expert_parallel"),
    "tensor": ("tp", "mp", "model", "tensor_parallel", "model_parallel"),
}
"""A mesh axis of the presets -> what others call it."""

ACTIVATIONS: dict[str, str | None] = {
    "residual_length": "length",
    "cache_heads": "kv_heads",
    "cache_length": None,
}
"""A logical axis of activations alone -> the axis whose rule it has where no rule names it, None
for no split: the tokens of the residual stream, between the products of blocks; the heads and the
slots of a cache."""


def _but(**targets: Target) -> tuple[AxisRule, ...]:
    """Returns `DEFAULT_RULES` with other targets for some axes; axes that they lack come first."""
    known = dict(DEFAULT_RULES)
    new = tuple((axis, target) for axis, target in targets.items() if axis not in known)
    return new + tuple((axis, targets.get(axis, target)) for axis, target in DEFAULT_RULES)


_NOT_TENSOR = dict.fromkeys(("vocab", "mlp", "heads", "kv_heads"))

PRESETS: dict[str, tuple[AxisRule, ...]] = {
    "replicated": _but(**_NOT_TENSOR, embed=None),
    "fsdp": _but(**_NOT_TENSOR),
    "tensor": _but(embed=None, batch="data"),
    "fsdp+tensor": DEFAULT_RULES,
    "expert": _but(experts="expert", batch=("data", "fsdp", "expert")),
    "sequence": _but(residual_length="tensor"),
}
"""Rules by name, for every argument that takes rules. The batch is split over `data`, and over
`fsdp` but in "tensor".

- "replicated": params are whole on each device (data parallelism).
- "fsdp": the model dimension of each param over `fsdp`; a layer is gathered before it is computed.
- "tensor": heads, the inner width of MLPs and the vocabulary over `tensor`; activations are summed.
- "fsdp+tensor": both; `DEFAULT_RULES`.
- "expert": both, and the experts over `expert`, over which the batch is split too.
- "sequence": both, and between the products the tokens of a sequence over `tensor` (Korthikanti et
  al. 2022, arXiv:2205.05198): norms, dropout and sums are computed, and kept for the gradient, once
  and not on each device."""


def preset(name: str, **axes: str) -> tuple[AxisRule, ...]:
    """Returns the rules of a preset, for a mesh whose axes have other names.

    >>> preset("tensor", tensor="model")[0]
    ('vocab', 'model')

    Args:
        name: of `PRESETS`.
        **axes: names of the mesh axes data, fsdp, expert and tensor. Two may be one:
            `preset("fsdp", fsdp="data")` shards params and batch over the same axis.

    Raises:
        ValueError: no such preset; with those that there are.
        TypeError: another keyword, or a name that is no string.
    """
    for what, said in {"rules": name, **axes}.items():
        if not isinstance(said, str):
            raise TypeError(f"{what} is {said!r:.100}; expected a name")
    if name not in PRESETS:
        raise ValueError(
            f"rules: there is no preset {name!r}{nearest(name, PRESETS)}; there are "
            f"{', '.join(PRESETS)}"
        )
    if odd := sorted(set(axes) - set(USUAL)):
        raise TypeError(f"presets name the axes {', '.join(USUAL)}; got {', '.join(odd)}")

    return tuple((axis, renamed_target(target, axes)) for axis, target in PRESETS[name])


def default_rules(**names: str) -> tuple[AxisRule, ...]:
    """Returns `DEFAULT_RULES` for a mesh whose axes have other names, as `preset` takes them.

    >>> default_rules(tensor="model")[0]
    ('vocab', 'model')
    """
    return preset("fsdp+tensor", **names)


def as_target(target: object, rule: object) -> Target:
    """Normalises what a rule says of a dimension.

    Raises:
        TypeError: not a mesh axis, several in a list, or None.
        ValueError: a mesh axis named twice.
    """
    if target is None or isinstance(target, str):
        return target
    if isinstance(target, tuple | list) and all(isinstance(name, str) for name in target):
        if len(set(target)) < len(target):
            raise ValueError(f"rules: {rule!r:.100} names a mesh axis twice")
        return tuple(target)
    raise TypeError(
        f"rules: {rule!r:.100} is no rule; expected (logical axis, mesh axis), such as "
        '("vocab", "tensor"), with None, or several mesh axes in a tuple, in its second place, or '
        "a PathRule"
    )


def renamed_target(target: Target, names: Mapping[str, str]) -> Target:
    """Returns a target with other names for some mesh axes: {its name: the new one}."""
    if isinstance(target, tuple):
        return tuple(dict.fromkeys(names.get(name, name) for name in target))
    return None if target is None else names.get(target, target)


def names_of(target: Target) -> tuple[str, ...]:
    """Returns the mesh axes of a target."""
    return () if target is None else (target,) if isinstance(target, str) else target


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Returns " (nearest: 'a')" for an error about a name that is not there; "" if none is as near
    as `cutoff` of 1."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=cutoff)
    return f" (nearest: {close[0]!r})" if close else ""
