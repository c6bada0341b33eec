"""What takes the place of a weight: all of it, or some rows."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from ..tree.weights import Shape
from .adapter import Adapter, Base, Product, register, wide


@register("value")
@dataclasses.dataclass(frozen=True, eq=False)
class Replacement(Adapter):
    """Serves in the place of the weight: PEFT's `modules_to_save`, and biases that are trained.

    Attributes:
        value: of the weight's shape.
    """

    value: jax.Array

    method: ClassVar[str] = "a replacement"
    trained: ClassVar[tuple[str, ...]] = ("value",)

    @property
    def lead(self) -> int:
        return 0  # what it does is the same with layers in front

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"value": shape}

    def on_product(self, y: jax.Array, product: Product) -> jax.Array:
        return product.contract(product.x, self.value, product.axis)

    def on_rows(self, y: jax.Array, ids: jax.Array, base: Base) -> jax.Array:
        return jnp.take(self.value, ids, axis=0).astype(y.dtype)

    def on_weight(self, w: jax.Array, base: jax.Array) -> jax.Array:
        return wide(self.value)


@register("rows", "index")
@dataclasses.dataclass(frozen=True, eq=False)
class TokenRows(Adapter):
    """Serves in the place of some rows: PEFT's trainable tokens.

    Attributes:
        rows: [n, D], the rows themselves, not what is added to them.
        index: int32 [n], which of the table they are, no one twice; not trained.
        axis: of the weight that tokens run along: 0 of a table (rows, D), 1 of the kernel (D, out)
            of a head.
    """

    rows: jax.Array
    index: jax.Array
    axis: int = 0

    method: ClassVar[str] = "trainable tokens"
    trained: ClassVar[tuple[str, ...]] = ("rows",)

    @property
    def lead(self) -> int:
        return len(self.rows.shape) - 2

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        count = self.rows.shape[-2]
        return {"rows": (count, shape[1 - self.axis]), "index": (count,)}

    def on_product(self, y: jax.Array, product: Product) -> jax.Array:
        logits = product.contract(product.x, self.rows, 1)
        return y.at[..., self.index].set(logits.astype(y.dtype))

    def on_rows(self, y: jax.Array, ids: jax.Array, base: Base) -> jax.Array:
        found = ids[..., None] == jnp.broadcast_to(self.index, (*ids.shape, *self.index.shape))
        own = jnp.take(self.rows, jnp.argmax(found, -1), axis=0).astype(y.dtype)
        return jnp.where(found.any(-1, keepdims=True), own, y)

    def on_weight(self, w: jax.Array, base: jax.Array) -> jax.Array:
        rows = wide(self.rows)
        return w.at[self.index].set(rows) if self.axis == 0 else w.at[:, self.index].set(rows.T)
