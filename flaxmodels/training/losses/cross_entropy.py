"""Cross-entropy of classes, one value for each label."""

import jax
import jax.numpy as jnp

from ...core.deferred import DeferredLogits
from .chunked import deferred_cross_entropy
from .token_loss import check_terms, classes_of


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

    Raises:
        TypeError: labels that are no integers.
        ValueError: labels of another shape, or a number out of range.
    """
    terms = {"label_smoothing": label_smoothing, "z_loss": z_loss, "ignore_index": ignore_index}
    check_terms(**terms)
    logits = logits if isinstance(logits, DeferredLogits) else jnp.asarray(logits)
    labels = classes_of(labels, logits.shape)
    counted = labels != ignore_index
    if isinstance(logits, DeferredLogits):
        return deferred_cross_entropy(logits, labels, **terms), counted
    values = _cross_entropy(logits, labels, label_smoothing=label_smoothing, z_loss=z_loss)
    return jnp.where(counted, values, 0.0), counted


def _cross_entropy(
    logits: jax.Array, labels: jax.Array, *, label_smoothing: float, z_loss: float
) -> jax.Array:
    """Computes the value of each label as if all counted."""
    x = logits.astype(jnp.float32)  # before all else: gradients are summed in float32
    # Relative to the largest, so that a label that is nearly certain keeps its digits.
    largest = jax.lax.stop_gradient(jnp.max(x, axis=-1))
    log_sum = jnp.log(jnp.sum(jnp.exp(x - largest[..., None]), axis=-1))
    values = log_sum - (1.0 - label_smoothing) * (_at(labels, x) - largest)
    if label_smoothing:
        values -= label_smoothing * (jnp.mean(x, axis=-1) - largest)
    if z_loss:
        values += z_loss * jnp.square(largest + log_sum)
    return jnp.where((labels >= 0) & (labels < x.shape[-1]), values, jnp.nan)


@jax.custom_jvp
def _at(labels: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the logit of each label int [...], of x [..., V]."""
    return jnp.take_along_axis(x, labels[..., None], axis=-1)[..., 0]


@_at.defjvp
def _at_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[object, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Makes the gradient by a comparison, which is one loop with that of the softmax; that of a
    lookup would be a scatter into zeros as large as the logits."""
    (labels, x), (_, dx) = primals, tangents
    chosen = jax.lax.broadcasted_iota(labels.dtype, x.shape, x.ndim - 1) == labels[..., None]
    return _at(labels, x), jnp.sum(jnp.where(chosen, dx, 0.0), axis=-1)
