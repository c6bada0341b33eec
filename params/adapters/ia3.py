"""(IA)^3: the inputs or the outputs of a product are multiplied, each by a number of its own."""

import dataclasses
from typing import ClassVar

import jax

from ..tree.weights import Shape
from .adapter import Adapter, Base, Product, along, register, wide


@register("factors")
@dataclasses.dataclass(frozen=True, eq=False)
class IA3(Adapter):
    """Multiplies each output, bias and all, or each input (Liu et al. 2022, arXiv:2205.05638).

    Attributes:
        factors: [out], or [in] if `on` is "input".
        on: "output" or "input", as of PEFT's `feedforward_modules`.
    """

    factors: jax.Array
    on: str = "output"

    method: ClassVar[str] = "IA3"
    trained: ClassVar[tuple[str, ...]] = ("factors",)

    @property
    def lead(self) -> int:
        return len(self.factors.shape) - 1

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"factors": shape[-2:-1] if self.on == "input" else shape[-1:]}

    @property
    def is_in_weight(self) -> bool:
        return self.on == "input"

    @property
    def serves_heads(self) -> bool:
        return False

    def on_input(self, x: jax.Array) -> jax.Array:
        return self._times(x) if self.on == "input" else x

    def on_product(self, y: jax.Array, product: Product) -> jax.Array:
        return y

    def on_output(self, y: jax.Array) -> jax.Array:
        return self._times(y) if self.on == "output" else y

    def on_rows(self, y: jax.Array, ids: jax.Array, base: Base) -> jax.Array:
        return self._times(y)

    def on_weight(self, w: jax.Array, base: jax.Array) -> jax.Array:
        return w * self._spread(wide(self.factors), w)

    def off_weight(self, w: jax.Array) -> jax.Array:
        return w / self._spread(wide(self.factors) + 1e-8, w)  # as PEFT, for factors of 0

    def on_bias(self, bias: jax.Array) -> jax.Array:
        return bias * wide(self.factors) if self.on == "output" else bias

    def off_bias(self, bias: jax.Array) -> jax.Array:
        return bias / (wide(self.factors) + 1e-8) if self.on == "output" else bias

    @property
    def changes_bias(self) -> bool:
        return self.on == "output"

    def _times(self, x: jax.Array) -> jax.Array:
        return (wide(x) * along(wide(self.factors), x)).astype(x.dtype)

    def _spread(self, vector: jax.Array, w: jax.Array) -> jax.Array:
        return along(vector[:, None] if self.on == "input" else vector, w)
