"""Connectionist temporal classification: labels in order, and no word of which frame says which.

Graves et al. 2006; reference: `ctc_loss` of PyTorch, as Transformers 5.23 calls it.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ...calls.known_values import known
from ...params.scalars import whole
from ..argument_checks import one_of
from .checks import REDUCTIONS

_IMPOSSIBLE = -1e30
"""The log of a probability of 0. Infinities would make gradients NaN."""


def ctc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    *,
    blank: int,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> jax.Array:
    """Computes -log of the probability that frames say labels, each for one frame or more, with
    blanks between; in float32.

    Args:
        logits: [B, T, V], of T frames.
        labels: int [B, U]; negative ones, and blanks, are padding, wherever they stand.
        logit_lengths: int [B], how many frames there are; T if None.
        blank: the class of a frame that says nothing (`config.pad_token_id` of speech models).
        reduction: "none" for [B]; "sum"; or "mean", of the examples, each divided by the number of
            its labels (`config.ctc_loss_reduction`).
        zero_infinity: examples with more labels than frames can say have loss 0, and not infinity
            (`config.ctc_zero_infinity`). Their gradient is 0 in both cases.

    Returns:
        float32; in a trace NaN of an example with a label that is no class.

    Raises:
        TypeError: labels or lengths that are no integers.
        ValueError: arrays that do not fit together, a label or a `blank` that is no class, a length
            of more frames than there are, or another reduction.
    """
    one_of("reduction", reduction, REDUCTIONS)
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if logit_lengths is None:
        logit_lengths = jnp.full(logits.shape[:1], logits.shape[1] if logits.ndim > 1 else 0)
    lengths, blank = jnp.asarray(logit_lengths), whole("blank", blank, 0)
    _check(logits.shape, labels, lengths, blank)
    ids, sizes = _gathered(labels.astype(jnp.int32), blank)
    log_p = _log_probability(logits, ids, sizes, lengths, blank)
    possible = log_p > 0.5 * _IMPOSSIBLE
    losses = jnp.where(possible, -log_p, 0.0 if zero_infinity else jnp.inf)
    losses = jnp.where((ids < logits.shape[2]).all(1), losses, jnp.nan)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return jnp.sum(losses)
    return jnp.mean(losses / jnp.maximum(sizes, 1))


def _check(shape: tuple[int, ...], labels: jax.Array, lengths: jax.Array, blank: int) -> None:
    """Raises as `ctc_loss`; values are looked at where they are known."""
    if len(shape) != 3 or labels.ndim != 2 or labels.shape[0] != shape[0]:
        raise ValueError(
            f"logits have shape {shape} and labels {labels.shape}; expected [B, T, V] and [B, U]"
        )
    for name, x in (("labels", labels), ("logit_lengths", lengths)):
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(f"{name} are {x.dtype}; expected integers")
    if lengths.shape != shape[:1]:
        raise ValueError(f"logit_lengths has shape {lengths.shape}; expected {shape[:1]}")
    if blank >= shape[2]:
        raise ValueError(f"blank is {blank}; expected a class from 0 to {shape[2] - 1}")
    for name, x, least, most in (
        ("labels", labels, -math.inf, shape[2] - 1),
        ("logit_lengths", lengths, 0, shape[1]),
    ):
        values = known(x)
        if values is not None and (odd := values[(values < least) | (values > most)]).size:
            raise ValueError(f"{name} has {odd.flat[0]}; expected at most {most} of logits {shape}")


def _gathered(labels: jax.Array, blank: int) -> tuple[jax.Array, jax.Array]:
    """Moves labels [B, U] before padding, which becomes `blank`; and counts them, [B]."""
    real = (labels >= 0) & (labels != blank)
    order = jnp.argsort(~real, axis=1, stable=True)
    gathered = jnp.take_along_axis(jnp.where(real, labels, blank), order, axis=1)
    return gathered, jnp.sum(real, axis=1)


def _log_probability(
    logits: jax.Array, labels: jax.Array, sizes: jax.Array, lengths: jax.Array, blank: int
) -> jax.Array:
    """Sums over all ways to say labels [B, U] in frames, one frame after the other: [B]."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    batch, count = labels.shape
    # What is said: a blank, a label, a blank, ..., a blank. A frame goes on with the same, with the
    # next, or leaves out a blank between two labels that differ.
    said = jnp.full((batch, 2 * count + 1), blank, labels.dtype).at[:, 1::2].set(labels)
    skips = (said != blank) & (said != jnp.pad(said, ((0, 0), (2, 0)), constant_values=-1)[:, :-2])
    scores = jnp.take_along_axis(log_p, said[:, None, :], axis=2)

    def after(places: int, x: jax.Array) -> jax.Array:
        moved = jnp.pad(x, ((0, 0), (places, 0)), constant_values=_IMPOSSIBLE)
        return moved[:, : x.shape[1]]

    def step(alpha: jax.Array, frame: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        score, time = frame
        skipped = jnp.where(skips, after(2, alpha), _IMPOSSIBLE)
        ways = jnp.logaddexp(jnp.logaddexp(alpha, after(1, alpha)), skipped)
        new = jnp.maximum(ways + score, _IMPOSSIBLE)
        return jnp.where((time < lengths)[:, None], new, alpha), None

    begun = jnp.full(said.shape, _IMPOSSIBLE, jnp.float32).at[:, 0].set(0.0)
    times = jnp.arange(logits.shape[1])
    alpha, _ = jax.lax.scan(step, begun, (scores.swapaxes(0, 1), times))
    places = jnp.stack([2 * sizes, jnp.maximum(2 * sizes - 1, 0)], axis=1)
    last = jnp.take_along_axis(alpha, places, axis=1)
    return jnp.where(sizes > 0, jnp.logaddexp(last[:, 0], last[:, 1]), last[:, 0])
