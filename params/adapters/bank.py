"""Several adapters of one weight, of which each row of a batch has its own, in one program."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from ..tree.weights import Shape
from .adapted_weight import AdaptedWeight
from .adapter import Adapter, Base, Contract, Product, along, register, wide

BANK = "bank"
"""The name of a bank among the adapters of a weight."""

FIELDS = ("a", "b", "bias", "gain", "inputs", "outputs")
"""The arrays of a bank but its index."""
FACTORS = ("gain", "inputs", "outputs")  # 1 where an adapter has none


@register(*FIELDS, "index")
@dataclasses.dataclass(frozen=True, eq=False)
class Bank(Adapter):
    """LoRA, DoRA and IA3, n of them: number i + 1 is `names[i]`, number 0 is none.

    Ranks are filled up with zeros; scales, and the factors of DoRA, are in b. What is None, no
    adapter has.

    Attributes:
        a: [n + 1, in, r].
        b: [n + 1, r, out].
        bias: [n + 1, out], what LoRA adds.
        gain: [n + 1, out], the factors of DoRA.
        inputs, outputs: [n + 1, in], [n + 1, out], the factors of IA3.
        index: int32 [B], the adapter of each row; or [], that of all. NaN comes of one that is not
            there.
    """

    a: jax.Array | None
    b: jax.Array | None
    bias: jax.Array | None
    gain: jax.Array | None
    inputs: jax.Array | None
    outputs: jax.Array | None
    index: jax.Array
    names: tuple[str, ...]

    method: ClassVar[str] = "a bank"
    trained: ClassVar[tuple[str, ...]] = ()

    @property
    def lead(self) -> int:
        vectors = (self.bias, self.gain, self.inputs, self.outputs)
        ndims = [(self.a, 3), *((each, 2) for each in vectors)]
        return next(len(x.shape) - ndim for x, ndim in ndims if x is not None)

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        n, out = len(self.names) + 1, shape[-1]
        found = {"bias": (n, out), "gain": (n, out), "outputs": (n, out), "inputs": (n, shape[0])}
        if self.a is not None:
            rank = self.a.shape[-1]
            found |= {"a": (n, shape[0], rank), "b": (n, rank, out)}
        return found

    @property
    def serves_heads(self) -> bool:
        return self.gain is None and self.inputs is None and self.outputs is None

    def on_input(self, x: jax.Array) -> jax.Array:
        return self._times(x, self.inputs)

    def on_product(self, y: jax.Array, product: Product) -> jax.Array:
        x, contract = product.x, product.contract
        z = self._times(y, self.gain)
        if self.a is not None and self.b is not None:
            a, b = self._own(self.a, x), self._own(self.b, x)
            thin = _thin(contract, product.axis)
            z = z + (thin if self.index.ndim == 0 else jax.vmap(thin))(x, a, b)
        if self.bias is not None:
            z = z + self._vectors(self.bias, z).astype(z.dtype)
        return z

    def on_output(self, y: jax.Array) -> jax.Array:
        return self._times(y, self.outputs)

    def on_rows(self, y: jax.Array, ids: jax.Array, base: Base) -> jax.Array:
        z = wide(self._times(y, self.gain))
        if self.a is not None and self.b is not None:
            b = wide(self._own(self.b, ids))
            if self.index.ndim == 0:
                rows = jnp.take(self._own(self.a, ids), ids, axis=0)
                z = z + wide(rows) @ b
            else:
                which = self.index.reshape(-1, *[1] * (ids.ndim - 1))
                rows = self.a.at[jnp.broadcast_to(which, ids.shape), ids].get(mode="fill")
                z = z + jnp.einsum("b...r,bro->b...o", wide(rows), b)
        return z.astype(y.dtype)

    def on_weight(self, w: jax.Array, base: jax.Array) -> jax.Array:
        raise ValueError("no one array is a weight whose adapter is chosen by row")

    def _own(self, table: jax.Array, x: jax.Array) -> jax.Array:
        """Returns what each row of x [B, ...] has of [n + 1, ...]."""
        if self.index.ndim and x.shape[:1] != self.index.shape:
            raise ValueError(
                f"adapters are chosen for {len(self.index)} rows, and a weight is used on shape "
                f"{x.shape}: give the batch so many rows; where a weight works on what rows share "
                "(positions, distances), choose one adapter for all"
            )
        return jnp.take(jnp.asarray(table), self.index, axis=0)

    def _vectors(self, table: jax.Array, y: jax.Array) -> jax.Array:
        """Returns the vector of each row, as it meets y [B, ..., F]."""
        own = self._own(table, y)
        if self.index.ndim:
            own = own.reshape(own.shape[0], *[1] * (y.ndim - 2), own.shape[1])
        return along(own, y)

    def _times(self, y: jax.Array, table: jax.Array | None) -> jax.Array:
        return y if table is None else (wide(y) * wide(self._vectors(table, y))).astype(y.dtype)


def bank_of(weight: AdaptedWeight) -> Bank | None:
    """Returns the bank of a weight, if it has one."""
    found = weight.adapters.get(BANK)
    return found if isinstance(found, Bank) else None


def _thin(contract: Contract, axis: int):
    """Returns the product with a @ b, or with its transpose."""
    if axis == 0:
        return lambda x, a, b: contract(contract(x, a, 0), b, 0)
    return lambda x, a, b: contract(contract(x, b, 1), a, 1)
