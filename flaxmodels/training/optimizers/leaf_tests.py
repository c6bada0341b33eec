"""Which leaves of params an argument means: masks, regular expressions on paths, what decays."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from ... import params as fp
from ...params.tree.masks import Mask
from ...params.tree.paths import compiled, matches, nearest
from ...params.types import Leaf

LeafTest: TypeAlias = Callable[[str, Leaf], bool]
"""(path, leaf) -> whether it is one of those."""


def decay_rule(template: fp.Params) -> LeafTest:
    """Returns which leaves decay by default: those of two or more dimensions, with which inputs are
    multiplied or looked up; no biases and no norms. Axes of stacked layers and experts do not
    count.

    Args:
        template: `model.abstract_params()`, whose leaves know such axes. A leaf of an adapter is
            at the path of its weight, the adapter's name, and its own.
    """
    leaves = fp.flatten(template)

    def decays(path: str, leaf: Leaf) -> bool:
        if path.endswith(("bias", "scale")):
            return False
        own = leaves.get(path)
        if own is None:
            own = leaves.get("/".join(path.split("/")[:-2]))
        axes = getattr(own, "axes", ())
        stacked = next((i for i, axis in enumerate(axes) if axis not in _LISTS), len(axes))
        return leaf.ndim - stacked >= 2

    return decays


_LISTS = ("layers", "experts")


def settled(mask: Mask | str | Iterable[str]) -> Mask | str | tuple[str, ...]:
    """Returns a mask or patterns as a value that can be read more than once."""
    if isinstance(mask, str | Mapping) or callable(mask) or not isinstance(mask, Iterable):
        return mask
    return tuple(mask)


def leaf_test(what: str, mask: Mask | str | tuple[str, ...], params: fp.Params | None) -> LeafTest:
    """Returns which leaves a mask, or regular expressions on paths, choose.

    Args:
        what: the name of the argument, for errors.
        params: the tree of which it speaks; None where it is not known yet, so that patterns cannot
            be held against it.

    Raises:
        ValueError: a mask that does not fit the tree, a pattern that matches no path, or nothing
            that is chosen.
    """
    patterns = (mask,) if isinstance(mask, str) else mask if isinstance(mask, tuple) else ()
    for pattern in patterns:
        compiled(pattern)
    given: Mask = (
        mask if not isinstance(mask, str | tuple) else lambda path, _: matches(patterns, path)
    )
    if params is None:
        if callable(given):
            return given
        raise ValueError(f"{what}: give regular expressions, or a predicate, where adapters train")
    paths = fp.flatten(params)
    for pattern in patterns:
        if not any(matches(pattern, path) for path in paths):
            raise ValueError(f"{what}: {pattern!r} matches no path{nearest(pattern, paths)}")
    try:
        chosen = {path for path, yes in fp.flatten(fp.as_mask(given, params)).items() if yes}
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if not chosen:
        raise ValueError(f"{what}: the mask chooses none of the {len(paths)} leaves")
    return lambda path, _: path in chosen
