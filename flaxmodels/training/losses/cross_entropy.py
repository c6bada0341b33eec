"""Cross-entropy of classes, one value for each label."""

import jax
import jax.numpy as jnp

from ...core.deferred import DeferredLogits
from .chunked import deferred_cross_entropy


def cross_entropy(
    logits: jax.Array | DeferredLogits,
    labels: jax.Array,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
) -> tuple[jax.Array, jax.Array]:
    """Computes the cross-entropy of each label, in float32 whatever the dtype of the logits.

    `(1 - label_smoothing) * -log p[label] + label_smoothing * mean(-log p) + z_loss * log(Z)**2`,
    where Z is the sum of exp(logits) that p is normalised by.

    Args:
        logits: [..., V]; of `DeferredLogits` (`model.clone(defer_logits=True)`) those of a chunk of
            tokens are made at a time.
        labels: int [...].
        label_smoothing: the share of the label's probability that goes to all classes alike.
            Source: `LabelSmoother` of Transformers, `CrossEntropyLoss` of PyTorch.
        z_loss: what keeps Z near 1. Source: PaLM, arXiv:2204.02311, section 5, with 1e-4.
        ignore_index: the label of what does not count.

    Returns:
        Values float32 [...], 0 at `ignore_index` and NaN at any other label that is no class; and
        which labels count, bool [...].
    """
    labels = jnp.asarray(labels)
    counted = labels != ignore_index
    if isinstance(logits, DeferredLogits):
        more = {"label_smoothing": label_smoothing, "z_loss": z_loss, "ignore_index": ignore_index}
        return deferred_cross_entropy(logits, labels, **more), counted
    values = _cross_entropy(logits, labels, label_smoothing=label_smoothing, z_loss=z_loss)
    return jnp.where(counted, values, 0.0), counted


def _cross_entropy(
    logits: jax.Array, labels: jax.Array, *, label_smoothing: float, z_loss: float
) -> jax.Array:
    """Computes the value of each label as if all counted."""
    x = jnp.asarray(logits).astype(jnp.float32)  # before all else: gradients are summed in float32
    size = x.shape[-1]
    largest, log_sum = _log_sum_exp(x)
    # A comparison, not a lookup: its gradient is no scatter, and a vocabulary that is spread over
    # devices stays where it is.
    chosen = jax.lax.broadcasted_iota(labels.dtype, x.shape, x.ndim - 1) == labels[..., None]
    label = jnp.sum(jnp.where(chosen, x, 0.0), axis=-1) - largest
    values = log_sum - (1.0 - label_smoothing) * label
    if label_smoothing:
        values -= label_smoothing * (jnp.mean(x, axis=-1) - largest)
    if z_loss:
        values += z_loss * jnp.square(largest + log_sum)
    return jnp.where((labels >= 0) & (labels < size), values, jnp.nan)


@jax.custom_jvp
def _log_sum_exp(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes m = max(x) and log(sum(exp(x - m))) of x [..., V]. Apart, they keep the digits of a
    label that is nearly certain. Their gradient is made of x, where JAX's own would keep
    exp(x - m), another array as large as the logits."""
    largest = jnp.max(x, axis=-1)
    return largest, jnp.log(jnp.sum(jnp.exp(x - largest[..., None]), axis=-1))


@_log_sum_exp.defjvp
def _log_sum_exp_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Gives all of the gradient of m + log(sum(exp(x - m))) to its second term."""
    (x,), (dx,) = primals, tangents
    largest, log_sum = _log_sum_exp(x)
    p = jnp.exp(x - (largest + log_sum)[..., None])
    return (largest, log_sum), (jnp.zeros_like(largest), jnp.sum(p * dx, axis=-1))
