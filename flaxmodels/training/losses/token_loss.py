"""What the loss of a token is, of its logits over the whole vocabulary; and its gradient."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ...params.scalars import whole
from ..argument_checks import number


class LogSum(NamedTuple):
    """log(sum(exp(logits))) of tokens as a sum of two [...]: added up in float32, a large logit
    would leave few digits for the log.

    Attributes:
        largest: the largest logit.
        log: of the sum of exp(logits - largest).
    """

    largest: jax.Array
    log: jax.Array


@dataclasses.dataclass(frozen=True)
class TokenLoss:
    """What the loss of a token is made of; as the arguments of `chunked_cross_entropy`."""

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    ignore_index: int = -100
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        check_terms(self.label_smoothing, self.z_loss, self.ignore_index)

    def losses(
        self, logits: jax.Array, labels: jax.Array, at: "At | None" = None
    ) -> tuple[jax.Array, LogSum]:
        """Returns the losses of tokens [...], and what `gradient` needs of their logits.

        Args:
            at: takes the logit of each label; `summed_out` if None.
        """
        smooth, count = self.label_smoothing, self._count(logits)
        there = self._masked(logits, -jnp.inf)
        # Relative to the largest, so that a label that is nearly certain keeps its digits.
        largest = jax.lax.stop_gradient(jnp.max(there, axis=-1))
        log = jnp.log(jnp.sum(jnp.exp(there - largest[..., None]), axis=-1))
        loss = log - (1 - smooth) * ((at or summed_out)(labels, logits) - largest)
        if smooth:
            loss -= smooth * (jnp.sum(self._masked(logits, 0), axis=-1) / count - largest)
        if self.z_loss:
            loss += self.z_loss * jnp.square(largest + log)
        loss = jnp.where((labels >= 0) & (labels < count), loss, jnp.nan)
        return jnp.where(labels == self.ignore_index, 0, loss), LogSum(largest, log)

    def gradient(
        self, logits: jax.Array, labels: jax.Array, log_sum: LogSum, of_loss: jax.Array
    ) -> jax.Array:
        """Returns the gradient with respect to logits [..., V], given that with respect to the
        losses [...]."""
        smooth, (largest, log) = self.label_smoothing, (x[..., None] for x in log_sum)
        found = jnp.exp(self._masked(logits, -jnp.inf) - largest - log)
        if self.z_loss:
            found *= 1 + 2 * self.z_loss * (largest + log)
        found -= jnp.where(_columns(logits) == labels[..., None], 1 - smooth, 0)
        if smooth:
            found -= self._masked(jnp.full_like(found, smooth / self._count(logits)), 0)
        return jnp.where(labels == self.ignore_index, 0, of_loss)[..., None] * found

    def _count(self, logits: jax.Array) -> int:
        return logits.shape[-1] if self.vocab_size is None else self.vocab_size

    def _masked(self, x: jax.Array, fill: float) -> jax.Array:
        """Returns x [..., V] with `fill` in the columns of padding."""
        count = self._count(x)
        return x if count == x.shape[-1] else jnp.where(_columns(x) < count, x, fill)


def check_terms(label_smoothing: float, z_loss: float, ignore_index: int = -100) -> None:
    """Raises ValueError for what no loss has: a smoothing that is not from 0 to 1, a negative
    `z_loss`, an index that is no int32."""
    number("label_smoothing", label_smoothing, 0, 1)
    number("z_loss", z_loss)
    whole("ignore_index", ignore_index, -(2**31), 2**31 - 1)


def classes_of(labels: ArrayLike, logits: tuple[int, ...]) -> jax.Array:
    """Returns labels as int32, one for each row of logits [..., V] of a shape.

    Raises:
        TypeError: no integers.
        ValueError: another shape.
    """
    ids = jnp.asarray(labels)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"labels are {ids.dtype}; expected integers, ids of classes")
    if not logits or not logits[-1] or ids.shape != logits[:-1]:
        raise ValueError(
            f"labels have shape {ids.shape}, and logits {logits}: expected a label for each token, "
            f"{logits[:-1]}, of one class or more"
        )
    return ids.astype(jnp.int32)  # `ignore_index` is no unsigned integer


At: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""(labels int [...], x [..., V]) -> the number of x at each label."""


def summed_out(labels: jax.Array, x: jax.Array) -> jax.Array:
    """Sums the number at each label out of all: sums over V are what devices exchange where V is
    split."""
    return jnp.sum(jnp.where(_columns(x) == labels[..., None], x, 0), axis=-1)


def _columns(x: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
