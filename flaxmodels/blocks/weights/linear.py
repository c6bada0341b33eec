"""Products: every one with a weight in the library is a `contract` of this file, and every lookup
in a table its `rows`. Both take weights that are held otherwise than as an array."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ... import sharding as fs
from ...params.adapters.adapted_weight import AdaptedWeight
from ...params.quantized.qtensor import QTensor
from ...params.tree.weights import Weight
from ..inputs import Tokens
from . import quantized
from .parameter import parameter, weight


def contract(x: jax.Array, weight: jax.Array | Weight, axis: int) -> jax.Array:
    """Multiplies the last axis of x [..., D] with `axis` of a 2-D weight -> [..., F], as x.dtype.

    On a CPU the product of 16-bit arrays is computed in float32 and rounded: XLA's own is slower,
    for a single row about twenty times, and a decode loop converts the weights once.
    """

    if isinstance(weight, AdaptedWeight):
        return weight.contract(x, axis, contract)
    if isinstance(weight, QTensor) and quantized.reads_rows(weight, axis):
        return quantized.product(x, weight)
    array = weight.dense(x.dtype) if isinstance(weight, Weight) else weight

    def product(x: jax.Array, weight: jax.Array, dtype: jnp.dtype) -> jax.Array:
        if x.ndim > 2 and _is_on_one_cpu(x, weight):
            flat = product(x.reshape(-1, x.shape[-1]), weight, dtype)
            return flat.reshape(*x.shape[:-1], flat.shape[-1])
        dimensions = (((x.ndim - 1,), (axis,)), ((), ()))
        return jax.lax.dot_general(x.astype(dtype), weight.astype(dtype), dimensions)

    if x.dtype.itemsize > 2:
        return product(x, array, x.dtype)
    return jax.lax.platform_dependent(
        x,
        array,
        cpu=lambda x, weight: product(x, weight, jnp.dtype(jnp.float32)).astype(x.dtype),
        default=lambda x, weight: product(x, weight, x.dtype),
    )


def _is_on_one_cpu(*arrays: jax.Array) -> bool:
    """Whether arrays are on no mesh, and the backend is a CPU. There XLA transposes a copy of the
    output's gradient for that of the weight, unless the product is one of matrices. On a mesh, rows
    and tokens may be split over different axes, and are not to be joined."""
    is_whole = all(jax.typeof(x).sharding.mesh.empty for x in arrays)
    return is_whole and jax.default_backend() == "cpu"


def affine(
    x: jax.Array, weight: jax.Array | Weight, bias: jax.Array | None, axis: int
) -> jax.Array:
    """Multiplies as `contract`, and adds a bias [F]; an adapter that changes the whole output of
    the weight changes the bias with it."""
    if bias is not None and isinstance(weight, AdaptedWeight):
        return weight.contract(x, axis, contract, bias)
    y = contract(x, weight, axis)
    return y if bias is None else with_bias(y, bias)


def with_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a bias [F] to y [..., F], as y.dtype."""
    return y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)


def rows(table: jax.Array | Weight, ids: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Looks up rows of a table [rows, D] -> [..., D] in `dtype`; NaN for an id that has none."""
    if isinstance(table, AdaptedWeight):
        return table.rows(ids, dtype, rows)
    if isinstance(table, QTensor) and not table.form.turned and table.perm is None:
        return quantized.rows(table, ids).astype(dtype)
    array = table.dense() if isinstance(table, Weight) else table
    return jnp.take(array, ids, axis=0).astype(dtype)


class Linear(nn.Module):
    """Computes x @ kernel + bias: x [..., in] -> [..., features], in the dtype of x.

    Attributes:
        axes: logical names of (in, features); the bias has that of `features`.
        std: of the normal from which the kernel is drawn.
    """

    features: int
    axes: tuple[str, str]
    std: float
    use_bias: bool = True

    def __call__(self, x: jax.Array) -> jax.Array:
        return affine(x, *self.params(x.shape[-1]), 0)

    @nn.compact
    def params(self, width: int) -> tuple[jax.Array | Weight, jax.Array | None]:
        """Returns the kernel [width, features] and the bias [features], for what multiplies with
        them later."""
        shape = (width, self.features)
        draw = nn.initializers.normal(self.std, jnp.float32)  # the same numbers under x64
        kernel = weight(self, "kernel", draw, shape, self.axes)
        if not self.use_bias:
            return kernel, None
        return kernel, parameter(self, "bias", nn.initializers.zeros, shape[1:], self.axes[1:])


class Bias(nn.Module):
    """Makes a bias [features], of what is no `Linear`; `axes` is its logical name."""

    features: int
    axes: tuple[str]

    @nn.compact
    def __call__(self) -> jax.Array:
        return parameter(self, "bias", nn.initializers.zeros, (self.features,), self.axes)


class Embed(nn.Module):
    """Looks up ids int [...] in a table -> rows [..., D]; an id that has no row gives NaN.

    Attributes:
        axes: logical names of (rows, D).
        std: of the normal from which the table is drawn.
        padding_id: a row that starts as zero, if there is one.
    """

    rows: int
    features: int
    std: float
    axes: tuple[str, str | None] = ("vocab", "embed")
    padding_id: int | None = None

    def setup(self) -> None:
        shape = (self.rows, self.features)
        draw = _table(self.std, self.padding_id)
        self.embedding = weight(self, "embedding", draw, shape, self.axes)

    def __call__(self, ids: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
        return rows(self.embedding, jnp.asarray(ids), dtype)

    def attend(self, x: jax.Array) -> jax.Array:
        """Multiplies x [..., D] with each row -> [..., rows], as a head tied to this table."""
        return contract(x, self.embedding, 1)


def _table(std: float, padding_id: int | None) -> fs.Draw:
    normal = nn.initializers.normal(std, jnp.float32)

    def draw(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        table = normal(key, shape)
        return table if padding_id is None else table.at[padding_id].set(0, mode="drop")

    return draw


def embed_inputs(embed: Embed, tokens: Tokens, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Returns the vectors of tokens, or those given in their place: [B, T, D] in `dtype`."""
    if tokens.input_ids is None:
        return jnp.asarray(tokens.inputs_embeds).astype(dtype)
    return embed(tokens.input_ids, dtype)
