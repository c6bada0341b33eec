"""Similarities of embeddings: larger is nearer, so that distances are negative."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .layers import normalized

Measure = Callable[[jax.Array, jax.Array], jax.Array]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum("...E,...E->...", a, b, precision="highest")


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    return _dot(normalized(a), normalized(b))


def _euclidean(a: jax.Array, b: jax.Array) -> jax.Array:
    squared = jnp.square(a - b).sum(axis=-1)
    differ = squared > 0  # where they are the same the root has no gradient, and 0 is taken
    return -jnp.where(differ, jnp.sqrt(jnp.where(differ, squared, 1)), 0)


def _manhattan(a: jax.Array, b: jax.Array) -> jax.Array:
    return -jnp.abs(a - b).sum(axis=-1)


SIMILARITIES: dict[str, Measure] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
"""{name in `config_sentence_transformers.json`: similarity of pairs, [..., E] twice -> [...]}."""


def all_pairs(name: str, a: object, b: object) -> jax.Array:
    """Returns the similarity of each of a [N, E] with each of b [M, E]: float32 [N, M]; of one
    vector [E] as of a batch of one."""
    a, b = _checked(a, b)
    if name in ("cosine", "dot"):
        a, b = (normalized(a), normalized(b)) if name == "cosine" else (a, b)
        return jnp.einsum("NE,ME->NM", a, b, precision="highest")

    def row(one: jax.Array) -> jax.Array:
        return SIMILARITIES[name](jnp.broadcast_to(one, b.shape), b)

    return jax.lax.map(row, a)  # exact, and never [N, M, E] at once


def pairwise(name: str, a: object, b: object) -> jax.Array:
    """Returns the similarity of each of a [N, E] with its pair of b [N, E]: float32 [N].

    Raises:
        ValueError: as many of one as of the other there are not.
    """
    a, b = _checked(a, b)
    if a.shape != b.shape:
        raise ValueError(f"embeddings of shapes {a.shape} and {b.shape} are no pairs")
    return SIMILARITIES[name](a, b)


def _checked(a: object, b: object) -> tuple[jax.Array, jax.Array]:
    try:
        first, second = (jnp.asarray(x, jnp.float32) for x in (a, b))
    except (TypeError, ValueError) as error:
        raise TypeError(f"embeddings are arrays [N, E] of numbers: {error}") from None
    first, second = (x[None] if x.ndim == 1 else x for x in (first, second))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"embeddings have shapes {first.shape} and {second.shape}; expected [N, E] and [M, E]"
        )
    return first, second
