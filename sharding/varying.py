"""What varies along the axes of a `shard_map`, for the loops inside it."""

from typing import TypeVar

import jax

Tree = TypeVar("Tree")


def varying(tree: Tree, over: object) -> Tree:
    """Marks the arrays of a tree as varying along every mesh axis of a `shard_map` along which an
    array of `over` varies; outside of `shard_map` it changes nothing.

    JAX wants it of the first value that a loop carries: it must not start to vary inside the loop.
    """

    def axes(x):
        return jax.typeof(x).manual_axis_type.varying

    wanted = frozenset().union(*map(axes, jax.tree.leaves(over)))

    def leaf(x):
        more = tuple(sorted(wanted - axes(x), key=str))
        return jax.lax.pcast(x, more, to="varying") if more else x

    return jax.tree.map(leaf, tree)
