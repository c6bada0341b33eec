"""Cross-entropy over large vocabularies: logits of a chunk of tokens at a time.

Logits [B, T, V], their gradient, and the float32 copies of both are the largest arrays of a
training step. Here the forward pass keeps two numbers a token, whose sum is the log of the sum of
exponentials, and the backward pass makes the logits of each chunk again. The gradient of the weight
is summed in float32, and only where it is asked for.

On a mesh each device has chunks of its own tokens. Of a vocabulary that is split, devices exchange
for each chunk a maximum and sums of its tokens, and the gradient of its hidden states: never
logits, nor the weight. That one is gathered along D, where it is split, once in each pass.
"""

import dataclasses
import functools
import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.tree_util import PyTreeDef
from jax.typing import ArrayLike

from ... import sharding as fs
from ...core.deferred import DeferredLogits
from ...params.scalars import whole
from ...params.tree.cast import at_least_float32
from ...params.tree.weights import Weight
from ..argument_checks import number
from .layout import Layout, layout_of
from .products import multiplied, pulled
from .token_loss import LogSum, TokenLoss, classes_of

CHUNK = 1024
"""Tokens of a chunk, if nothing says how many."""


def chunked_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike | Weight,
    labels: ArrayLike,
    *,
    axis: int = 0,
    bias: ArrayLike | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
    chunk: int = CHUNK,
    vocab_size: int | None = None,
) -> jax.Array:
    """Computes the cross-entropy of each token, without all logits at once.

    Logits are `softcap * tanh((hidden @ weight + bias) * scale / softcap)`, of what is not None;
    the product is made in the dtype of `hidden` and summed in float32. On a mesh tokens and V are
    split by `fs.DEFAULT_RULES`; `cross_entropy` of `DeferredLogits` has rules of its own.

    Args:
        hidden: [..., D].
        weight: a kernel [D, V] or, with axis=1, a table [V, D]; an array or a `Weight`, as a
            quantised or an adapted one.
        labels: int [...], of the shape of `hidden` without D.
        axis: of `weight`, which is multiplied with D.
        bias: [V].
        label_smoothing: e of `(1 - e) * nll + e * mean(-log p)`, the mean over V (Szegedy et al.
            2016, arXiv:1512.00567).
        z_loss: c of `c * log(sum(exp(logits)))**2`, which is added (Chowdhery et al. 2022,
            arXiv:2204.02311).
        ignore_index: a label whose token has the loss 0.
        chunk: tokens whose logits a device has at a time, at most.
        vocab_size: only the first so many of the V columns are tokens, the others padding; all of
            them if None.

    Returns:
        float32 (float64 of float64), of the shape of `labels`; NaN for a label that is no token.
        It has gradients with respect to hidden, weight and bias.

    Raises:
        TypeError: labels that are no integers.
        ValueError: arrays that do not fit together, or a number out of range.
    """
    hidden, axis = jnp.asarray(hidden), whole("axis", axis, 0)
    weight = weight if isinstance(weight, Weight) else jnp.asarray(weight)
    bias = None if bias is None else jnp.asarray(bias)
    _check_product(hidden.shape, weight.shape, None if bias is None else bias.shape, axis)
    if scale is not None:
        scale = number("scale", scale, -math.inf)
    if softcap is not None:
        softcap = number("softcap", softcap, exclusive=True)
    logits = DeferredLogits(hidden, weight, bias, axis, scale=scale, softcap=softcap)
    if vocab_size is not None:
        vocab_size = whole("vocab_size", vocab_size, most=logits.vocab_size)
    token_loss = TokenLoss(label_smoothing, z_loss, ignore_index, vocab_size)
    return losses_of(logits, labels, token_loss, chunk)


def _check_product(
    hidden: tuple[int, ...], weight: tuple[int, ...], bias: tuple[int, ...] | None, axis: int
) -> None:
    """Raises `ValueError` for shapes of which no logits [..., V] can be made."""
    form = "a kernel [D, V], or with axis=1 a table [V, D]"
    if axis > 1 or len(weight) != 2 or not hidden or hidden[-1] != weight[axis]:
        raise ValueError(
            f"hidden has shape {hidden} and weight {weight}, with axis={axis}: expected [..., D] "
            f"and {form}"
        )
    if bias not in (None, (width := weight[1 - axis],)):
        raise ValueError(f"bias has shape {bias}: expected {(width,)}, as weight is {form}")


def losses_of(
    logits: DeferredLogits, labels: ArrayLike, token_loss: TokenLoss, chunk: int | None
) -> jax.Array:
    """Computes the loss of each token of logits that are not made."""
    labels = classes_of(labels, logits.shape)
    # Inside of a `shard_map` each device has tokens of its own: gradients of what they share are
    # summed there by the transpose of this.
    logits = fs.varying(logits, (logits.hidden, labels))
    layout = layout_of(logits, CHUNK if chunk is None else chunk)
    arrays, tree = jax.tree.flatten((logits.weight, logits.bias))
    call = _Call(
        dataclasses.replace(logits, hidden=None, weight=None, bias=None), tree, token_loss, layout
    )
    ids = layout.chunks(labels, padding=token_loss.ignore_index)
    return layout.joined(_losses(call, layout.chunks(logits.hidden), arrays, ids))


@dataclasses.dataclass(frozen=True)
class _Call:
    """What is static about a call.

    Attributes:
        logits: without arrays.
        tree: the structure of (weight, bias), whose arrays are apart.
    """

    logits: DeferredLogits
    tree: PyTreeDef
    token_loss: TokenLoss
    layout: Layout

    def params(self, arrays: list[jax.Array], dtype: jnp.dtype) -> list[jax.Array]:
        """Returns the arrays as products read them: of a plain weight, in `dtype` and whole along
        D."""
        weight, _ = self.tree.unflatten(arrays)
        if isinstance(weight, Weight):
            return arrays
        axes = (None, "vocab") if self.logits.axis == 0 else ("vocab", None)
        return [fs.constrain(weight.astype(dtype), axes, self.logits.rules), *arrays[1:]]

    def products(self, x: jax.Array, arrays: list[jax.Array], numbers: jax.Array) -> jax.Array:
        """Multiplies a chunk [P, C, D] -> [P, C, V], float32; `numbers` [P] tell chunks apart."""
        make = functools.partial(multiplied, self.logits, self.tree, arrays)
        return self.layout.hint(jax.vmap(make)(x, numbers), vocab=True)


class _Kept(NamedTuple):
    """What the backward pass needs of the forward pass."""

    hidden: jax.Array
    arrays: list[jax.Array]
    labels: jax.Array
    log_sums: LogSum
    wanted: "_Wanted"


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Wanted:
    """Which gradients are asked for: that of hidden states, and of each array."""

    hidden: bool
    arrays: tuple[bool, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _losses(
    call: _Call, hidden: jax.Array, arrays: list[jax.Array], labels: jax.Array
) -> jax.Array:
    """Computes the losses [n, P, C] of chunks: hidden [n, P, C, D], labels [n, P, C]."""
    return _forward(call, hidden, arrays, labels)[0]


def _forward(
    call: _Call, hidden: jax.Array, arrays: list[jax.Array], labels: jax.Array
) -> tuple[jax.Array, LogSum]:
    params = call.params(arrays, hidden.dtype)

    def one(_: None, chunk: tuple[jax.Array, ...]) -> tuple[None, tuple[jax.Array, LogSum]]:
        x, ids, numbers = chunk
        products = call.products(x, params, numbers)
        return None, call.token_loss.losses(call.logits.shaped(products), ids)

    return jax.lax.scan(one, None, (hidden, labels, call.layout.numbers))[1]


class _Primal(Protocol):
    """An input of a `custom_vjp` with symbolic zeros; `perturbed`: its gradient is asked for."""

    value: jax.Array
    perturbed: bool


def _kept(
    call: _Call, hidden: _Primal, arrays: list[_Primal], labels: _Primal
) -> tuple[jax.Array, _Kept]:
    wanted = _Wanted(hidden.perturbed, tuple(each.perturbed for each in arrays))
    values = hidden.value, [each.value for each in arrays], labels.value
    losses, log_sums = _forward(call, *values)
    return losses, _Kept(*values, log_sums, wanted)


def _backward(
    call: _Call, kept: _Kept, of_losses: jax.Array | SymbolicZero
) -> tuple[jax.Array | None, list[jax.Array | None], None]:
    hidden, arrays, labels, log_sums, wanted = kept
    if isinstance(of_losses, SymbolicZero):
        return None, [None] * len(arrays), None
    params = call.params(arrays, hidden.dtype)
    pull = functools.partial(pulled, call.logits, call.tree, params, wanted.arrays)

    def one(
        sums: list[jax.Array], chunk: tuple[jax.Array, jax.Array, LogSum, jax.Array, jax.Array]
    ) -> tuple[list[jax.Array], jax.Array | None]:
        x, ids, log_sum, of_loss, numbers = chunk
        logits, of_shape = jax.vjp(call.logits.shaped, call.products(x, params, numbers))
        (of_products,) = of_shape(call.token_loss.gradient(logits, ids, log_sum, of_loss))
        of_x, found = jax.vmap(pull)(x, numbers, call.layout.hint(of_products, vocab=True))
        sums = [total + each.astype(total.dtype) for total, each in zip(sums, found, strict=True)]
        sums = [call.layout.hint(each) for each in sums]
        return sums, call.layout.hint(of_x) if wanted.hidden else None

    shards = hidden.shape[1]
    zeros = [
        jnp.zeros((shards, *each.shape), at_least_float32(each.dtype))
        for each, asked in zip(arrays, wanted.arrays, strict=True)
        if asked
    ]
    chunks = hidden, labels, log_sums, of_losses, call.layout.numbers
    sums, of_hidden = jax.lax.scan(one, fs.varying(zeros, chunks), chunks)
    totals = iter(sums)
    of_arrays = [
        jnp.sum(next(totals), axis=0).astype(each.dtype) if asked else None
        for each, asked in zip(arrays, wanted.arrays, strict=True)
    ]
    return of_hidden, of_arrays, None


_losses.defvjp(_kept, _backward, symbolic_zeros=True)
