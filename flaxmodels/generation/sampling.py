"""Sampling: from logits to the next token."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Choice(NamedTuple):
    """Says how each token is chosen, as far as the program is compiled for it.

    Attributes:
        do_sample: draw; else take the most probable.
        top_k: draw among the k most probable.
        forced_first: the first new token; None for any.
        forced_last: of which the last token of a row is one; () for any.
    """

    do_sample: bool
    top_k: int | None = None
    forced_first: int | None = None
    forced_last: tuple[int, ...] = ()


class Draw(NamedTuple):
    """The arrays of a draw; one that is None is not in the compiled program.

    Attributes:
        temperature: float32 []; divides the logits.
        top_p: float32 []; keep the fewest most probable whose probabilities reach it.
        key: a `jax.random.key`.
    """

    temperature: jax.Array | None = None
    top_p: jax.Array | None = None
    key: jax.Array | None = None


def next_token(
    logits: jax.Array, choice: Choice, draw: Draw, step: jax.Array, last: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Chooses the token of a step by logits [B, V]; returns as `choose`.

    Args:
        step: int32 [], how many new tokens there are.
        last: bool [], whether it is the last one.
    """
    if choice.forced_first is not None:
        logits = jnp.where(step == 0, only(logits, (choice.forced_first,)), logits)
    if choice.forced_last:
        logits = jnp.where(last, only(logits, choice.forced_last), logits)
    if draw.key is not None:
        draw = draw._replace(key=jax.random.fold_in(draw.key, step))
    return choose(logits, choice, draw)


def only(logits: jax.Array, tokens: tuple[int, ...]) -> jax.Array:
    """Returns logits [B, V] by which one of `tokens` is chosen, all of them equally likely."""
    allowed = jnp.isin(jnp.arange(logits.shape[-1]), jnp.array(tokens, jnp.int32))
    return jnp.broadcast_to(jnp.where(allowed, 0, -jnp.inf).astype(logits.dtype), logits.shape)


def choose(logits: jax.Array, choice: Choice, draw: Draw) -> tuple[jax.Array, jax.Array]:
    """Chooses the next token by logits [B, V], and by the key as it is.

    Returns:
        tokens int32 [B], and bool [B]: whether the choice is valid. It is not where the logits hold
        a NaN, or the greatest is infinite; nor where temperature or top-p are out of range, which
        only the running program may know.
    """
    greatest, tokens = _greatest(logits)
    fine = jnp.isfinite(greatest)
    if not choice.do_sample:
        return tokens, fine
    assert draw.key is not None
    if draw.temperature is not None:
        positive = draw.temperature > 0
        fine &= positive & jnp.isfinite(greatest / jnp.where(positive, draw.temperature, 1))
    if draw.top_p is not None:
        fine &= (draw.top_p >= 0) & (draw.top_p <= 1)
    scores = warp(logits.astype(jnp.float32), choice.top_k, draw)
    return jax.random.categorical(draw.key, scores).astype(jnp.int32), fine


def _greatest(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the greatest of logits [B, V], or the first NaN, float32 [B]; and its index.

    `argmax` takes the first NaN for the greatest, so that one pass finds both; a `max` of its own
    costs another, 0.6 ms for 32,000 logits on a CPU.
    """
    tokens = jnp.argmax(logits, axis=-1)
    greatest = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return greatest.astype(jnp.float32), tokens.astype(jnp.int32)


def warp(logits: jax.Array, top_k: int | None, draw: Draw) -> jax.Array:
    """Applies temperature, top-k and top-p to logits [B, V], in this order: -inf excludes a token.

    As in Transformers' logits processors: ties with the k-th token stay; top-p goes by the
    probabilities that top-k leaves, and always keeps the most probable token.
    """
    if draw.temperature is not None:
        logits = logits / draw.temperature
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < smallest, -jnp.inf, logits)
    if draw.top_p is not None:
        order = jnp.argsort(logits, axis=-1, descending=True)
        probabilities = jnp.take_along_axis(jax.nn.softmax(logits), order, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        keep = (before < draw.top_p).at[..., 0].set(True)
        keep = jnp.take_along_axis(keep, jnp.argsort(order, axis=-1), axis=-1)
        logits = jnp.where(keep, logits, -jnp.inf)
    return logits
