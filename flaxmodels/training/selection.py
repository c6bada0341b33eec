"""What is trained and what is not: params in two trees, and together again."""

from typing import TypeAlias

import jax
import jax.numpy as jnp

from .. import params as fp
from ..params.tree.masks import Mask
from ..params.tree.weights import is_weight
from .optimizers.leaf_tests import LeafTest, leaf_test

Trainable: TypeAlias = Mask | str | tuple[str, ...]
"""None for all params; "adapters"; regular expressions on paths; or a mask."""
ADAPTERS = "adapters"


def of_adapters(trainable: Trainable) -> bool:
    """Tells whether adapters alone are trained."""
    return isinstance(trainable, str) and trainable == ADAPTERS


def divide(params: fp.Params, trainable: Trainable) -> tuple[fp.Params, fp.Params]:
    """Returns (what is trained, everything else); `join` inverts it.

    Raises:
        ValueError: a mask that does not fit or chooses nothing; weights with adapters, without
            `trainable="adapters"`; quantised weights or integers that would be trained.
    """
    if of_adapters(trainable):
        return fp.split_adapters(params)
    test: LeafTest | None = None if trainable is None else leaf_test("trainable", trainable, params)
    trained, frozen = {}, {}
    for path, leaf in fp.flatten(params).items():
        (trained if test is None or test(path, leaf) else frozen)[path] = leaf
    for path, leaf in trained.items():
        if is_weight(leaf):
            raise ValueError(
                f"{path} is held as {leaf.held_as}, which has no gradient: give "
                "trainable='adapters', or a mask without it"
            )
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"{path} is {leaf.dtype} and has no gradient; leave it out of the mask"
            )
    return fp.unflatten(trained), fp.unflatten(frozen)


def join(trained: fp.Params, frozen: fp.Params, *, adapters: bool) -> fp.Params:
    """Returns params of the two trees that `divide` made.

    Args:
        adapters: whether the first is of adapters alone.
    """
    if adapters:
        return fp.join_adapters(trained, frozen)
    return fp.merge(trained, frozen) if jax.tree.leaves(frozen) else trained
