"""Cross-entropy of classes, one value for each label."""

import jax
import jax.numpy as jnp

from ...core.deferred import DeferredLogits
from .chunked import losses_of
from .token_loss import TokenLoss, classes_of, summed_out


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
    loss = TokenLoss(label_smoothing, z_loss, ignore_index)
    logits = logits if isinstance(logits, DeferredLogits) else jnp.asarray(logits)
    labels = classes_of(labels, logits.shape)
    counted = labels != ignore_index
    if isinstance(logits, DeferredLogits):
        return losses_of(logits, labels, loss, logits.chunk), counted
    x = logits.astype(jnp.float32)  # before all else: gradients are summed in float32
    return loss.losses(x, labels, _at)[0], counted


@jax.custom_jvp
def _at(labels: jax.Array, x: jax.Array) -> jax.Array:
    """Looks up the logit of each label int [...], of x [..., V]."""
    return jnp.take_along_axis(x, labels[..., None], axis=-1)[..., 0]


@_at.defjvp
def _at_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[object, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Makes the gradient by a comparison, which is one loop with that of the softmax; that of a
    lookup would be a scatter into zeros as large as the logits."""
    (labels, x), (_, dx) = primals, tangents
    return _at(labels, x), summed_out(labels, dx)
