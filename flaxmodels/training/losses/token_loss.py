"""What the loss of a token is, of its logits over the whole vocabulary; and its gradient."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class TokenLoss:
    """What the loss of a token is made of; as the arguments of `chunked_cross_entropy`."""

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    ignore_index: int = -100
    vocab_size: int | None = None

    def check(self, width: int) -> None:
        """Raises `ValueError` for a number out of range; `width` is V."""
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; expected 0 to 1")
        if self.vocab_size is not None and not 0 < self.vocab_size <= width:
            raise ValueError(
                f"vocab_size is {self.vocab_size}, and the weight has {width} columns: expected "
                f"1 to {width}"
            )

    def losses(self, logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the losses of tokens, and the logs of their sums of exponentials [...].

        All is made of maxima and sums over V, which are what devices exchange where V is split: so
        the logit of the label is summed out of all, not taken.
        """
        smooth, count = self.label_smoothing, self._count(logits)
        there = self._masked(logits, -jnp.inf)
        top = jnp.max(there, axis=-1)
        log_sum = top + jnp.log(jnp.sum(jnp.exp(there - top[..., None]), axis=-1))
        chosen = _columns(logits) == labels[..., None]
        loss = log_sum - (1 - smooth) * jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
        if smooth:
            loss -= smooth / count * jnp.sum(self._masked(logits, 0), axis=-1)
        if self.z_loss:
            loss += self.z_loss * jnp.square(log_sum)
        loss = jnp.where((labels >= 0) & (labels < count), loss, jnp.nan)
        return jnp.where(labels == self.ignore_index, 0, loss), log_sum

    def gradient(
        self, logits: jax.Array, labels: jax.Array, log_sum: jax.Array, of_loss: jax.Array
    ) -> jax.Array:
        """Returns the gradient with respect to logits [..., V], given that with respect to the
        losses [...]."""
        smooth, log_sum = self.label_smoothing, log_sum[..., None]
        found = jnp.exp(self._masked(logits, -jnp.inf) - log_sum)
        if self.z_loss:
            found *= 1 + 2 * self.z_loss * log_sum
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


def _columns(x: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
