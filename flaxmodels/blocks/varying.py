"""Loops inside `shard_map`."""

from typing import Any

import jax


def varying(tree: Any, over: Any) -> Any:
    """Inside `shard_map`, marks the tree as varying along every mesh axis along which a part of
    `over` varies. JAX wants it: what a loop carries must not start to vary inside the loop."""

    def axes(x):
        return jax.typeof(x).manual_axis_type.varying

    wanted = frozenset().union(*map(axes, jax.tree.leaves(over)))

    def leaf(x):
        more = tuple(sorted(wanted - axes(x), key=str))
        return jax.lax.pcast(x, more, to="varying") if more else x

    return jax.tree.map(leaf, tree)
