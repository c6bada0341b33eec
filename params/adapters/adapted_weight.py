"""A weight with its adapters: one leaf of a tree of params."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ..host.kernels import cast_leaf
from ..tree.weights import Shape, Weight
from .adapter import ALL, LOOKUP, PRODUCT, Adapter, Base, Contract, Product, dense_of
from .lora import wide_dense

A, B, Made = TypeVar("A"), TypeVar("B"), TypeVar("Made")

Rows: TypeAlias = Callable[[Base, jax.Array, jax.typing.DTypeLike], jax.Array]
"""(table, ids, dtype) -> rows."""


@dataclasses.dataclass(frozen=True, eq=False)
class AdaptedWeight(Weight):
    """A weight, and what adapters make of it.

    In a tree of params it is a leaf with the shape and dtype of its base; `jax.tree` sees
    `kernel/base`, `kernel/adapters/<name>/a` and so on. Adapters that act do so one after another;
    those of other weights, and none, leave it as it is.

    Attributes:
        base: an array, or another `Weight`, such as a `QTensor`.
        adapters: {name: adapter}.
        active: names of those that act, in order.
        enabled: whether any does.
        merged: names of those that the base has in it.
    """

    base: Base
    adapters: Mapping[str, Adapter]
    active: tuple[str, ...] = ()
    enabled: bool = True
    merged: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        return tuple(self.base.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.base.dtype

    @property
    def held_as(self) -> str:
        base = self.base.held_as if isinstance(self.base, Weight) else str(self.base.dtype)
        return "+".join([base, *dict.fromkeys(each.method for each in self.adapters.values())])

    def astype(self, dtype: jax.typing.DTypeLike) -> "AdaptedWeight":
        """Returns the weight with base and what is trained of adapters in another dtype."""
        base, own = self.base, {}
        for name, each in self.adapters.items():
            arrays = each.trained_arrays.items()
            own[name] = each.replace(**{field: cast_leaf(x, dtype) for field, x in arrays})
        base = base.astype(dtype) if isinstance(base, Weight) else cast_leaf(base, dtype)
        return self.replace(base=base, adapters=own)

    def acting(self, part: str = ALL) -> list[Adapter]:
        """Returns the adapters that act on a use of the weight, of those that are not merged."""
        names = [name for name in self.active if name not in self.merged] if self.enabled else []
        found = [self.adapters[name] for name in names]
        for name, each in zip(names, found, strict=True):
            if lost := each.missing:
                raise ValueError(
                    f"the adapter {name!r} has no {lost[0]}; fp.join_adapters(trained, rest) puts "
                    "it back"
                )
        return [each for each in found if ALL in (part, each.part) or part == each.part]

    def dense(self, dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
        """Returns the weight that acting adapters make.

        Raises:
            ValueError: an adapter acts on one use of a table alone, or on more than the weight.
        """
        acting = self.acting()
        if not acting:
            return dense_of(self.base, dtype)
        if odd := [each.part for each in acting if each.part != ALL]:
            raise ValueError(f"no one array is a table with an adapter of its {odd[0]} alone")
        if odd := [each.method for each in acting if not each.is_in_weight]:
            raise ValueError(
                f"a weight that is no product's, as of a convolution, with {odd[0]} that drops "
                "inputs or changes outputs: that is done for products alone"
            )
        dtype = self.dtype if dtype is None else dtype
        return over_layers(lambda *each: with_all(*each).astype(dtype), self.base, acting)

    def contract(
        self, x: jax.Array, axis: int, contract: Contract, bias: jax.Array | None = None
    ) -> jax.Array:
        """Multiplies the last axis of x [..., D] with `axis` of a weight of two -> [..., F], as
        x.dtype.

        Args:
            contract: what multiplies with the base.
            bias: [F], is added; what changes the whole output changes it too.
        """
        acting = self.acting(PRODUCT if axis == 1 else ALL)
        if axis == 1 and not all(each.serves_heads for each in acting):
            return contract(x, self.dense(x.dtype), axis)
        for each in acting:
            x = each.on_input(x)
        product = Product(x, self.base, axis, contract)
        y = contract(x, self.base, axis)
        for each in acting:
            y = each.on_product(y, product)
        if bias is not None:
            y = y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)
        for each in acting:
            y = each.on_output(y)
        return y

    def rows(self, ids: jax.Array, dtype: jax.typing.DTypeLike, rows: Rows) -> jax.Array:
        """Looks up ids int [...] -> rows [..., D] of a table in `dtype`; `rows` looks up in the
        base."""
        y = rows(self.base, ids, dtype)
        for each in self.acting(LOOKUP):
            y = each.on_rows(y, ids, self.base)
        return y

    def replace(self, **changes: Any) -> "AdaptedWeight":
        """Returns the weight with other fields."""
        return dataclasses.replace(self, **changes)


jax.tree_util.register_dataclass(
    AdaptedWeight, ["base", "adapters"], ["active", "enabled", "merged"]
)


def base_of(leaf: Any) -> Any:
    """Returns a leaf without its adapters."""
    return leaf.base if isinstance(leaf, AdaptedWeight) else leaf


def over_layers(function: Callable[[B, A], Made], base: B, adapters: A) -> Made:
    """Returns `function(base, adapters)`; of a weight of stacked layers, that of each of them, one
    after another, so that what it computes in float32 is one layer's."""
    each = jax.tree.leaves(adapters, is_leaf=lambda x: isinstance(x, Adapter))
    if max((adapter.lead for adapter in each), default=0):
        return jax.lax.map(lambda layer: function(*layer), (base, adapters))
    return function(base, adapters)


def with_all(base: Base, adapters: list[Adapter]) -> jax.Array:
    """Returns one layer's weight with adapters in it, float32."""
    dense = w = wide_dense(base)
    for each in adapters:
        w = each.on_weight(w, dense)
    return w
