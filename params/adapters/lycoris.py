"""LoHa and LoKr: products of thin matrices, number by number or as Kronecker's."""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from ..tree.weights import Shape
from .adapter import Adapter, Base, Product, register, wide


@dataclasses.dataclass(frozen=True, eq=False)
class Sum(Adapter):
    """Adds an array to the weight that it makes as a whole.

    Attributes:
        scale: float32 [], alpha / r; not trained.
    """

    scale: jax.Array = dataclasses.field(kw_only=True)

    @property
    def lead(self) -> int:
        return len(self.scale.shape)

    @abc.abstractmethod
    def delta(self) -> jax.Array:
        """Returns what is added, float32, of the weight's shape."""

    def on_product(self, y: jax.Array, product: Product) -> jax.Array:
        return y + product.contract(product.x, self.delta(), product.axis)

    def on_rows(self, y: jax.Array, ids: jax.Array, base: Base) -> jax.Array:
        return (wide(y) + jnp.take(self.delta(), ids, axis=0)).astype(y.dtype)

    def on_weight(self, w: jax.Array, base: jax.Array) -> jax.Array:
        return w + self.delta()

    def off_weight(self, w: jax.Array) -> jax.Array:
        return w - self.delta()


@register("a1", "b1", "a2", "b2", "scale")
@dataclasses.dataclass(frozen=True, eq=False)
class LoHa(Sum):
    """W + scale * (a1 @ b1) * (a2 @ b2) (Hyeon-Woo et al. 2022, arXiv:2108.06098).

    Attributes:
        a1, a2: [in, r]; of a convolution [window, in, r].
        b1, b2: [r, out].
    """

    a1: jax.Array
    b1: jax.Array
    a2: jax.Array
    b2: jax.Array

    method: ClassVar[str] = "LoHa"
    trained: ClassVar[tuple[str, ...]] = ("a1", "b1", "a2", "b2")

    @property
    def rank(self) -> int:
        """r; in stacked layers the greatest."""
        return self.b1.shape[-2]

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        down, up = (*shape[:-1], self.rank), (self.rank, shape[-1])
        return {"a1": down, "b1": up, "a2": down, "b2": up, "scale": ()}

    def delta(self) -> jax.Array:
        def product(a: jax.Array, b: jax.Array) -> jax.Array:
            return jnp.einsum("...r,ro->...o", wide(a), wide(b))

        return product(self.a1, self.b1) * product(self.a2, self.b2) * self.scale


@register("w1", "a1", "b1", "w2", "a2", "b2", "scale")
@dataclasses.dataclass(frozen=True, eq=False)
class LoKr(Sum):
    """W + scale * kron(w1, w2), of a kernel (in, out); each factor is an array, or a product of
    two (Yeh et al. 2024, arXiv:2309.14859).

    Attributes:
        w1: [in / i, out / o], or None; then it is a1 [in / i, r] @ b1 [r, out / o].
        w2: [i, o], or None; then it is a2 [i, r] @ b2 [r, o].
    """

    w1: jax.Array | None
    a1: jax.Array | None
    b1: jax.Array | None
    w2: jax.Array | None
    a2: jax.Array | None
    b2: jax.Array | None

    method: ClassVar[str] = "LoKr"
    trained: ClassVar[tuple[str, ...]] = ("w1", "a1", "b1", "w2", "a2", "b2")

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        found: dict[str, Shape] = {"scale": ()}
        outer = [_factor(self, i, self.lead) for i in "12"]
        sizes = tuple(p * q for p, q in zip(*outer, strict=True))
        if sizes != tuple(shape):
            rows, columns = (n // m if m else 0 for n, m in zip(shape, outer[1], strict=False))
            if self.b1 is None:
                found["w1"] = (rows, columns)
            else:
                found["a1"] = (rows, self.b1.shape[-2])
        return found

    @property
    def missing(self) -> tuple[str, ...]:
        whole = {n: getattr(self, f"w{n}") is not None for n in "12"}
        return tuple(f for f in super().missing if f[0] != "w" and not whole[f[1]])

    def delta(self) -> jax.Array:
        return jnp.kron(self._whole("1"), self._whole("2")) * self.scale

    def on_product(self, y: jax.Array, product: Product) -> jax.Array:
        if product.axis != 0:
            return super().on_product(y, product)
        x, w1, w2 = wide(product.x), self._whole("1"), self._whole("2")
        blocks = x.reshape(*x.shape[:-1], w1.shape[0], w2.shape[0])
        update = jnp.einsum("...ij,ik,jl->...kl", blocks, w1, w2) * self.scale
        return y + update.reshape(y.shape).astype(y.dtype)

    def _whole(self, number: str) -> jax.Array:
        w, a, b = (getattr(self, name + number) for name in "wab")
        return wide(a) @ wide(b) if w is None else wide(w)


def _factor(adapter: LoKr, number: str, lead: int) -> Shape:
    w, a, b = (getattr(adapter, name + number) for name in "wab")
    return tuple(w.shape[lead:]) if w is not None else (a.shape[-2], b.shape[-1])
