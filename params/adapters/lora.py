"""LoRA, rsLoRA, DoRA: a product of two thin matrices is added to the weight."""

import dataclasses
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from ..tree.weights import Shape, Weight
from .adapter import PRODUCT, Adapter, Base, Product, along, register, scaled, wide


@register("a", "b", "scale", "magnitude", "bias", "norm", "key")
@dataclasses.dataclass(frozen=True, eq=False)
class LoRA(Adapter):
    """W + scale * a @ b (Hu et al. 2021, arXiv:2106.09685); with a magnitude, each column of that
    at a length that is learned (DoRA, Liu et al. 2024, arXiv:2402.09353).

    Attributes:
        a: of a kernel [in, r], of a table [rows, r], of a convolution [window, in, r].
        b: [r, out] or [r, D].
        scale: float32 []; alpha / r, or alpha / sqrt(r) of rsLoRA. It is not trained. In stacked
            layers one for each: 0 leaves a layer as it is, and those of a smaller rank have zeros
            in a and b.
        magnitude: [out] or [D], DoRA; None without. Of a tied head (`part` "product") [rows].
        bias: [out], is added to the product, times `scale`; None without.
        norm: [out], the lengths of the columns of W + scale * a @ b, kept where that is merged.
        key: uint32 [2], of the dropout of this call (`fp.adapter_dropout`); None without.
        dropout: how often an input of `a` is dropped in training; not of a table.
    """

    a: jax.Array
    b: jax.Array
    scale: jax.Array
    magnitude: jax.Array | None = None
    bias: jax.Array | None = None
    norm: jax.Array | None = None
    key: jax.Array | None = None
    dropout: float = 0.0

    method: ClassVar[str] = "LoRA"
    trained: ClassVar[tuple[str, ...]] = ("a", "b", "magnitude", "bias")

    @property
    def rank(self) -> int:
        """r; in stacked layers the greatest."""
        return self.b.shape[-2]

    @property
    def lead(self) -> int:
        return len(self.scale.shape)

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        *front, out = shape
        columns = (shape[0] if self.part == PRODUCT else out,)
        found = {"a": (*front, self.rank), "b": (self.rank, out), "scale": ()}
        return found | {"magnitude": columns, "bias": columns, "norm": columns}

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(field for field in ("a", "b") if getattr(self, field) is None)

    @property
    def is_in_weight(self) -> bool:
        return self.bias is None and (self.key is None or self.dropout == 0)

    @property
    def serves_heads(self) -> bool:
        return self.magnitude is None or self.part == PRODUCT

    def on_product(self, y: jax.Array, product: Product) -> jax.Array:
        x, base, axis, contract = product
        if self.key is not None and self.dropout > 0:
            x = dropped(x, self.key, self.dropout)
        first, second = (self.a, self.b) if axis == 0 else (self.b, self.a)
        update = contract(scaled(contract(x, first, axis), self.scale), second, axis)
        if self.bias is not None:
            update = update + along(scaled(self.bias, self.scale).astype(y.dtype), y)
        if self.magnitude is None:
            return y + update
        gain = along(self.gain(wide_dense(base)), y)
        plain = y if x is product.x else contract(x, base, axis)  # PEFT drops the inputs of both
        return (wide(y) + (gain - 1) * wide(plain) + gain * wide(update)).astype(y.dtype)

    def on_rows(self, y: jax.Array, ids: jax.Array, base: Base) -> jax.Array:
        rows = jnp.take(wide(self.a), ids, axis=0)
        z = wide(y) + rows @ wide(self.b) * self.scale
        if self.magnitude is not None:
            z = along(self.gain(wide_dense(base)), z) * z
        return z.astype(y.dtype)

    def delta(self) -> jax.Array:
        """Returns scale * a @ b, float32, of the weight's shape."""
        return jnp.einsum("...r,ro->...o", wide(self.a), wide(self.b)) * self.scale

    def lengths(self, base: jax.Array) -> jax.Array:
        """Returns the lengths of the columns of W + scale * a @ b. They have no gradient."""
        if self.norm is not None:
            return wide(self.norm)
        columns = -1 if self.part != PRODUCT else 0
        total = jax.lax.stop_gradient(base + self.delta())
        axes = tuple(i for i in range(total.ndim) if i != columns % total.ndim)
        return jnp.sqrt(jnp.sum(jnp.square(total), axes))

    def gain(self, base: jax.Array) -> jax.Array:
        """Returns what each column of W + scale * a @ b is multiplied with, if it has a length."""
        assert self.magnitude is not None
        return wide(self.magnitude) / self.lengths(base)

    def on_weight(self, w: jax.Array, base: jax.Array) -> jax.Array:
        w = w + self.delta()
        return w if self.magnitude is None else w * self._columns(self.gain(base), w)

    def off_weight(self, w: jax.Array) -> jax.Array:
        if self.magnitude is not None:
            w = w / self._columns(self.gain(w), w)  # of `before_merge`
        return w - self.delta()

    def before_merge(self, base: jax.Array) -> Self:
        return self if self.magnitude is None else self.replace(norm=self.lengths(base))

    def after_merge(self) -> Self:
        return self.replace(norm=None)

    def _columns(self, vector: jax.Array, w: jax.Array) -> jax.Array:
        return along(vector, w) if self.part != PRODUCT else along(vector, w.T).T

    def on_bias(self, bias: jax.Array) -> jax.Array:
        return bias if self.bias is None else bias + wide(self.bias) * self.scale

    def off_bias(self, bias: jax.Array) -> jax.Array:
        return bias if self.bias is None else bias - wide(self.bias) * self.scale

    @property
    def changes_bias(self) -> bool:
        return self.bias is not None

    @property
    def needs_bias(self) -> bool:
        return self.bias is not None


def wide_dense(base: Base) -> jax.Array:
    """Returns a weight as one array of float32."""
    return wide(base.dense(jnp.float32) if isinstance(base, Weight) else base)


def dropped(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    """Returns x with elements that are zero, each as likely as `rate`, and the others larger."""
    if rate >= 1:
        return jnp.zeros_like(x)
    kept = jax.random.bernoulli(jax.random.wrap_key_data(key), 1 - rate, x.shape)
    return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros_like(x))
