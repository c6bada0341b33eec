"""Plans of tensor parallelism in Transformers' style names, as rules of paths."""

import re
from collections.abc import Iterable, Mapping

from .presets import USUAL, AxisRule, PathRule, Rules, Target, names_of, nearest, renamed_target
from .rules import as_rules

_COLUMNS = {"kernel": (None, "tensor"), "bias": ("tensor",)}
_ROWS = {"kernel": ("tensor", None), "bias": ()}

STYLES: dict[str, Mapping[str, tuple[Target, ...]] | None] = {
    "colwise": _COLUMNS,
    "colwise_gather_output": _COLUMNS,
    "colwise_rep": _COLUMNS,
    "packed_colwise": _COLUMNS,
    "rowwise": _ROWS,
    "rowwise_split_input": _ROWS,
    "rowwise_rep": _ROWS,
    "packed_rowwise": _ROWS,
    "embedding_rowwise": {"embedding": ("tensor", None)},
    "embedding_colwise": {"embedding": (None, "tensor")},
    "replicate": {".*": ()},
    "replicated_with_grad_allreduce": {".*": ()},
    "sequence_parallel": {".*": ()},
    "all_reduce": None,
}
"""Style -> {name of a leaf: its spec}, of kernels (in, out); None for a style of activations alone.
What a style says of inputs and outputs (`_gather_output`, `_split_input`, `_rep`, `all_reduce`) the
compiler does by itself. Joined tensors (`packed_`) are leaves of their own here, each split by
itself. `sequence_parallel` also splits the tokens of the residual stream."""

_OTHERS = {
    "mla_kv_a_proj": "latent attention",
    "moe_tp_experts": "experts",
    "moe_identity_expert": "experts",
    "grouped_gemm": "experts",
    "ep_router": "experts",
    "ep_dispatch_experts": "experts",
    "local_params": "PyTorch's kernels",
}
"""Styles of Transformers 5.23 that no family here has a use for -> what they are of."""


def tensor_axis(axis_names: Iterable[str]) -> str:
    """Returns the axis of a mesh that tensor parallelism is over: "tensor", or a usual name for it,
    or the only one.

    Raises:
        ValueError: it cannot be told.
    """
    names = tuple(axis_names)
    usual = [name for name in names if name.lower() in ("tensor", *USUAL["tensor"])]
    found = ["tensor"] if "tensor" in names else usual or names
    if len(found) != 1:
        raise ValueError(
            f"tensor parallelism is over one axis of the mesh, and which of {', '.join(names)} is "
            'not said: call it "tensor"'
        )
    return found[0]


def mesh_axes(rules: Rules) -> set[str]:
    """Returns the mesh axes that rules name."""
    targets = (x for old in rules for x in (old.spec if isinstance(old, PathRule) else old[1:]))
    return {name for target in targets for name in names_of(target)}


def renamed(rules: object, names: Mapping[str, str]) -> Rules:
    """Returns rules, as `as_rules` takes them, with other names for some mesh axes: {the name in
    the rules: the new one}.

    Raises:
        TypeError: names that are no mapping of texts.
        ValueError: a name that is in no rule.
    """
    if not isinstance(names, Mapping) or not all(
        isinstance(text, str) for pair in names.items() for text in pair
    ):
        raise TypeError(f"names is {names!r:.80}; expected {{mesh axis of the rules: its name}}")
    given = as_rules(rules)
    there = mesh_axes(given)
    if odd := sorted(names.keys() - there):
        raise ValueError(
            f"names: no rule has the mesh axis {odd[0]!r}{nearest(odd[0], there)}; there are "
            f"{', '.join(sorted(there)) or 'none'}"
        )

    def rule(old: AxisRule | PathRule) -> AxisRule | PathRule:
        if isinstance(old, PathRule):
            return PathRule(old.pattern, tuple(renamed_target(each, names) for each in old.spec))
        return old[0], renamed_target(old[1], names)

    return tuple(map(rule, given))


def tensor_rules(plan: Mapping[str, str], paths: Iterable[str], rules: Rules) -> Rules:
    """Puts a plan before rules, of which those that it does not change are kept.

    Args:
        plan: {name of a module or of a parameter: style}, such as {"layers.*.self_attn.q_proj":
            "colwise"}: parts between dots, `*` for the number of a layer; the name is that of the
            leaf's path, or an end of it.
        paths: of the leaves that there are.
        rules: over the mesh axis "tensor".

    Raises:
        TypeError: a plan that is no mapping of names to styles.
        ValueError: a style that is none, a name that no leaf has, or a style for another kind of
            leaves.
    """
    if not isinstance(plan, Mapping) or not all(
        isinstance(text, str) for pair in plan.items() for text in pair
    ):
        raise TypeError(
            f"tp_plan is {plan!r:.100}; expected {{name of a module: style}}, such as "
            '{"layers.*.mlp.up_proj": "colwise"}'
        )
    paths = list(paths)
    found: list[AxisRule | PathRule] = []
    for name, style in plan.items():
        if style in _OTHERS:
            raise ValueError(
                f"tp_plan[{name!r}] is {style!r}, a style for {_OTHERS[style]}, which is not there "
                f"yet; there are {', '.join(STYLES)}"
            )
        if style not in STYLES:
            raise ValueError(
                f"tp_plan[{name!r}] is {style!r:.80}{nearest(style, STYLES)}; there are "
                f"{', '.join(STYLES)}"
            )
        specs = STYLES[style]
        if specs is not None:
            found += _of_module(name, style, specs, paths)
        if style == "sequence_parallel":
            found.append(("residual_length", "tensor"))
    return (*dict.fromkeys(found), *rules)


def _of_module(
    name: str, style: str, specs: Mapping[str, tuple[Target, ...]], paths: list[str]
) -> list[PathRule]:
    module, _, last = name.rpartition(".")
    is_leaf = last in ("weight", "bias")
    start = _pattern(module if is_leaf else name)
    leaves = {"weight": "(kernel|scale|embedding)", "bias": "bias"}.get(last, "[^/]+")
    here = [path for path in paths if re.search(f"{start}/{leaves}$", path)]
    if not here:
        modules = {path.rpartition("/")[0] for path in paths}
        ends = {re.sub(r"/\d+/", ".*.", path).replace("/", ".") for path in modules}
        raise ValueError(f"tp_plan: no param is at {name!r}{nearest(name, ends, cutoff=0.3)}")
    made = []
    for leaf, spec in specs.items():
        pattern = f"{start}/{leaf if leaf != '.*' else leaves}$"
        if any(re.search(pattern, path) and re.search(f"/{leaves}$", path) for path in here):
            made.append(PathRule(pattern, spec))
    if not made:
        raise ValueError(
            f"tp_plan[{name!r}] is {style!r}, which is for {' and '.join(specs)}, and there is "
            f"{here[0]}"
        )
    return made


def _pattern(name: str) -> str:
    """Returns the regular expression of a module's name; layers that are stacked have no number."""
    parts = name.split(".")
    return "(^|/)" + "".join(
        r"([0-9]+/)?" if part == "*" else re.escape(part) + ("/" if i < len(parts) - 1 else "")
        for i, part in enumerate(parts)
    ).rstrip("/")
