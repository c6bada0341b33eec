"""Pooling: the vectors of a text's tokens become one."""

import dataclasses

import jax
import jax.numpy as jnp

from ..params.scalars import flag

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""In the order in which the vectors of several modes are put side by side."""


@dataclasses.dataclass(frozen=True)
class Pooling:
    """Hidden states [B, T, D] -> float32 [B, D times the number of modes].

    "cls" is the first token, "lasttoken" the last, "max" the largest of each feature, "mean" the
    mean; "mean_sqrt_len_tokens" divides the sum by the root of the number of tokens, and
    "weightedmean" weighs a token by its place, from 1. Padding counts for nothing; of a
    text without a token all but "cls" are zeros.

    Reference: `Pooling` of sentence-transformers 5.7.

    Attributes:
        modes: of `MODES`; the vectors of several are put side by side, in this order, each as it
            would be alone.
        include_prompt: whether the tokens of a prompt take part.
    """

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True

    def __post_init__(self) -> None:
        flag("include_prompt", self.include_prompt)
        if not isinstance(self.modes, str):
            object.__setattr__(self, "modes", tuple(self.modes))
        odd = [mode for mode in self.modes if mode not in MODES]
        if odd or not self.modes:
            raise ValueError(
                f"modes of pooling are {', '.join(MODES)}, one or several; got {self.modes}"
            )

    def __call__(
        self, x: jax.Array, mask: jax.Array, prompt_length: jax.Array | int | None = None
    ) -> jax.Array:
        """Pools x [B, T, D].

        Args:
            mask: [B, T], nonzero for tokens; padding may be on either side.
            prompt_length: tokens of the prompt, which a text begins with; they take no part unless
                `include_prompt`.
        """
        x, mask = x.astype(jnp.float32), mask != 0
        place = jnp.cumsum(mask, axis=1, dtype=jnp.int32)  # of a token in its text, from 1
        if prompt_length is not None and not self.include_prompt:
            mask = mask & (place > prompt_length)
        return jnp.concatenate([_POOL[mode](x, mask, place) for mode in self.modes], axis=-1)


def _first(x: jax.Array, mask: jax.Array, place: jax.Array) -> jax.Array:
    return _at(x, jnp.argmax(mask, axis=1))


def _last(x: jax.Array, mask: jax.Array, place: jax.Array) -> jax.Array:
    last = x.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    return jnp.where(mask.any(axis=1, keepdims=True), _at(x, last), 0)


def _at(x: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, index[:, None, None], axis=1)[:, 0]


def _largest(x: jax.Array, mask: jax.Array, place: jax.Array) -> jax.Array:
    largest = jnp.where(mask[..., None], x, -jnp.inf).max(axis=1)
    return jnp.where(mask.any(axis=1, keepdims=True), largest, 0)


def _mean(x: jax.Array, mask: jax.Array, place: jax.Array) -> jax.Array:
    return _weighted(x, mask.astype(x.dtype))


def _over_root(x: jax.Array, mask: jax.Array, place: jax.Array) -> jax.Array:
    count = mask.sum(axis=1, dtype=x.dtype, keepdims=True)
    return _mean(x, mask, place) * jnp.sqrt(count)


def _by_place(x: jax.Array, mask: jax.Array, place: jax.Array) -> jax.Array:
    return _weighted(x, jnp.where(mask, place, 0).astype(x.dtype))


def _weighted(x: jax.Array, weights: jax.Array) -> jax.Array:
    total = jnp.maximum(weights.sum(axis=1, keepdims=True), 1e-9)  # no token: a vector of zeros
    return jnp.einsum("BTD,BT->BD", x, weights, precision="highest") / total


_POOL = {
    "cls": _first,
    "max": _largest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _over_root,
    "weightedmean": _by_place,
    "lasttoken": _last,
}
