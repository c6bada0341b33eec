"""What an adapter is: a few arrays beside a weight, and what they do to each of its uses."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias, TypeVar

import jax
import jax.numpy as jnp

from ..tree.cast import at_least_float32
from ..tree.weights import Shape, Weight
from .peft.config import PeftConfig

C = TypeVar("C", bound=type)

Base: TypeAlias = jax.Array | Weight
"""A weight without adapters."""

ALL, LOOKUP, PRODUCT = "all", "lookup", "product"


class Contract(Protocol):
    """Multiplies the last axis of x [..., D] with `axis` of a weight -> [..., F], as x.dtype."""

    def __call__(self, x: jax.Array, weight: Base, axis: int, /) -> jax.Array: ...


class Product(NamedTuple):
    """A product that is going on.

    Attributes:
        x: [..., D], what is multiplied.
        base: the weight without adapters.
        axis: of the weight, 0 or 1, that is multiplied with the last of x.
        contract: how the library multiplies.
    """

    x: jax.Array
    base: Base
    axis: int
    contract: Contract


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter(abc.ABC):
    """Changes one weight W: a kernel (in, out), a table (rows, D), the kernel of a convolution
    (window, in, out), a bias.

    Its arrays are laid out as the weight is, in axis before out axis, whatever files have. Beside a
    weight of stacked layers each has the axis of layers in front; the methods are for one layer.

    Attributes:
        part: which uses of a table it changes: "lookup", its rows as embeddings; "product", the
            logits of a head that is tied to it; "all", both. "all" for every other weight.
        config: PEFT's, which it is saved with; None if nobody knows it.
    """

    part: str = dataclasses.field(default=ALL, kw_only=True)
    config: PeftConfig | None = dataclasses.field(default=None, kw_only=True)

    method: ClassVar[str]
    """Its name, for messages."""
    trained: ClassVar[tuple[str, ...]]
    """The fields that training changes."""

    @property
    @abc.abstractmethod
    def lead(self) -> int:
        """How many axes of layers its arrays have in front: 0 or 1."""

    @abc.abstractmethod
    def shapes(self, shape: Shape) -> dict[str, Shape]:
        """Returns {field: the shape it must have} beside a weight of `shape`, both of one layer."""

    @abc.abstractmethod
    def on_product(self, y: jax.Array, product: Product) -> jax.Array:
        """Returns the product with the adapter; y [..., out] is what those before it made."""

    @property
    def trained_arrays(self) -> dict[str, jax.Array]:
        """Returns what training changes, by field, without what it has not."""
        arrays = {field: getattr(self, field) for field in self.trained}
        return {field: array for field, array in arrays.items() if array is not None}

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields that it needs and has not, as the part of `split_adapters` that stays."""
        return tuple(field for field in self.trained if field not in self.trained_arrays)

    @property
    def is_in_weight(self) -> bool:
        """Whether `on_weight` is all that it does."""
        return True

    @property
    def serves_heads(self) -> bool:
        """Whether `on_product` is right for the axis 1 of a table, of a head that is tied to it."""
        return True

    @abc.abstractmethod
    def on_rows(self, y: jax.Array, ids: jax.Array, base: Base) -> jax.Array:
        """Returns rows [..., D] of a table at ids int [...]; y is what those before it made, `base`
        the table without adapters."""

    @abc.abstractmethod
    def on_weight(self, w: jax.Array, base: jax.Array) -> jax.Array:
        """Returns the weight with the adapter in it, float32.

        Args:
            w: what those before it made.
            base: the weight without adapters.
        """

    def off_weight(self, w: jax.Array) -> jax.Array:
        """Returns what `on_weight` made w of; only where `is_invertible`."""
        raise ValueError(f"{self.method} cannot be taken out of a weight again")

    @property
    def is_invertible(self) -> bool:
        """Whether a weight that it is merged into still has what was there before."""
        return type(self).off_weight is not Adapter.off_weight

    def before_merge(self, base: jax.Array) -> "Adapter":
        """Returns the adapter with what is needed to take it out of the merged weight again."""
        return self

    def after_merge(self) -> "Adapter":
        """Returns what `before_merge` was given."""
        return self

    def on_input(self, x: jax.Array) -> jax.Array:
        """Returns what is multiplied in the place of x [..., in]."""
        return x

    def on_output(self, y: jax.Array) -> jax.Array:
        """Returns the output in the place of y [..., out], which has the bias in it."""
        return y

    def on_bias(self, bias: jax.Array) -> jax.Array:
        """Returns the bias [out] beside a weight that the adapter is merged into, float32."""
        return bias

    def off_bias(self, bias: jax.Array) -> jax.Array:
        """Returns what `on_bias` made the bias of."""
        return bias

    @property
    def changes_bias(self) -> bool:
        """Whether there is something in it for a bias."""
        return False

    def replace(self, **changes: Any) -> Self:
        """Returns the adapter with other fields."""
        return dataclasses.replace(self, **changes)

    @property
    def needs_bias(self) -> bool:
        """Whether it can be merged only where there is a bias."""
        return False


def register(*arrays: str):
    """Makes a decorator that registers a class of adapters as a node for JAX: its children are the
    fields `arrays`, under their names, the others are static."""

    def registered(cls: C) -> C:
        static = [field.name for field in dataclasses.fields(cls) if field.name not in arrays]
        return jax.tree_util.register_dataclass(cls, [*arrays], static)

    return registered


def along(vector: jax.Array, y: jax.Array) -> jax.Array:
    """Returns a vector [F] as it meets the last axis of y [..., F]."""
    return jnp.broadcast_to(vector, y.shape)


def dense_of(base: Base, dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
    """Returns a weight as one array, in its own dtype or in another."""
    if isinstance(base, Weight):
        return base.dense(dtype)
    return base if dtype is None else base.astype(dtype)


def wide(x: jax.typing.ArrayLike) -> jax.Array:
    """Returns an array in float32, or as it is if that is wider."""
    x = jnp.asarray(x)
    return x.astype(at_least_float32(x.dtype))


def scaled(x: jax.Array, factor: jax.typing.ArrayLike) -> jax.Array:
    """Multiplies x with one number, in float32, and returns the dtype of x. In bfloat16 the number
    itself would be rounded: 0.22 to 0.2197."""
    y = wide(x)
    return (y * jnp.asarray(factor, y.dtype)).astype(x.dtype)
