"""Products of a chunk with the vocabulary, and their gradients, summed in float32."""

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef

from ... import blocks
from ...core.deferred import DeferredLogits
from ...params.adapters.adapted_weight import AdaptedWeight
from ...params.tree.cast import at_least_float32
from ...params.tree.weights import Weight


def multiplied(
    logits: DeferredLogits,
    tree: PyTreeDef,
    arrays: list[jax.Array],
    x: jax.Array,
    number: jax.Array,
) -> jax.Array:
    """Multiplies x [C, D] with weight and bias, whose arrays are those of `tree` -> [C, V] in
    float32. A `Weight` multiplies in the dtype of x, as it does in the model.

    Args:
        number: int32 [], of the chunk.
    """
    weight, bias = tree.unflatten(arrays)
    if isinstance(weight, Weight):
        y = logits.product(x, _dropping(weight, number), bias)
        return y.astype(at_least_float32(y.dtype))
    y = _dot(x, weight, 1, logits.axis)
    return y if bias is None else blocks.with_bias(y, bias)


def pulled(
    logits: DeferredLogits,
    tree: PyTreeDef,
    arrays: list[jax.Array],
    wanted: tuple[bool, ...],
    x: jax.Array,
    number: jax.Array,
    of_y: jax.Array,
) -> tuple[jax.Array, list[jax.Array]]:
    """Returns the gradients of x [C, D], and of the arrays that are `wanted`, given that of the
    product [C, V]."""
    weight, bias = tree.unflatten(arrays)
    if isinstance(weight, Weight):
        some = [array for array, asked in zip(arrays, wanted, strict=True) if asked]

        def product(x: jax.Array, some: list[jax.Array]) -> jax.Array:
            given, both = iter(some), zip(arrays, wanted, strict=True)
            mixed = [next(given) if asked else array for array, asked in both]
            return multiplied(logits, tree, mixed, x, number)

        return jax.vjp(product, x, some)[1](of_y)
    narrow, found = of_y.astype(x.dtype), []
    if wanted[0]:
        pair = (x, narrow) if logits.axis == 0 else (narrow, x)
        found.append(_dot(*pair, 0, 0))
    if bias is not None and wanted[1]:
        found.append(jnp.sum(of_y, axis=0))
    return _dot(narrow, weight, 1, 1 - logits.axis).astype(x.dtype), found


def _dropping(weight: Weight, number: jax.Array) -> Weight:
    """Returns a weight whose adapters drop other inputs in each chunk, where they have a key."""
    if not isinstance(weight, AdaptedWeight):
        return weight
    adapters = dict(weight.adapters)
    for name, adapter in adapters.items():
        if (key := getattr(adapter, "key", None)) is not None:
            each = jax.random.fold_in(jax.random.wrap_key_data(key), number)
            adapters[name] = adapter.replace(key=jax.random.bits(each, key.shape, jnp.uint32))
    return weight.replace(adapters=adapters)


def _dot(a: jax.Array, b: jax.Array, i: int, j: int) -> jax.Array:
    """Multiplies axis i of a with axis j of b, each of two, and sums in float32. On a CPU the
    arrays are converted first, for the reason that `blocks.contract` gives."""
    wide = at_least_float32(a.dtype)

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.dot_general(a, b, (((i,), (j,)), ((), ())), preferred_element_type=wide)

    if a.dtype.itemsize > 2:
        return product(a, b)
    in_float32 = lambda a, b: product(a.astype(wide), b.astype(wide))  # noqa: E731
    return jax.lax.platform_dependent(a, b, cpu=in_float32, default=product)
