"""The baseline of the classifier: logistic regression on words and pairs of words, tf-idf."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _passages import PACKAGES, Passages, Vectors

PENALTIES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Tried on the validation split; the best one's model is measured."""

_STEPS = 300


def accuracy(
    train: Passages, validation: Passages, held_out: Passages, vectors: Vectors | None = None
) -> list[float]:
    """Shares of `validation` and `held_out` that the model of the best penalty gets right.

    Args:
        vectors: also give the model the mean vector of each passage.
    """
    splits = (train, validation, held_out)
    x, *others = (jnp.asarray(matrix) for matrix in _features(splits, vectors))
    scores = []
    for penalty in PENALTIES:
        weights = _fit(x, jnp.asarray(train.labels), penalty)
        scores.append([_share(weights, *pair) for pair in zip(others, splits[1:], strict=True)])
    return max(scores)


def _share(weights: jax.Array, x: jax.Array, passages: Passages) -> float:
    return float((np.asarray(x @ weights).argmax(-1) == passages.labels).mean())


@jax.jit
def _fit(x: jax.Array, labels: jax.Array, penalty: float) -> jax.Array:
    """Weights [F, K], by L-BFGS."""

    def loss(weights: jax.Array) -> jax.Array:
        nats = optax.softmax_cross_entropy_with_integer_labels(x @ weights, labels)
        return nats.mean() + penalty * jnp.sum(weights**2)

    solver = optax.lbfgs()

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        weights, state = carry
        value, grad = optax.value_and_grad_from_state(loss)(weights, state=state)
        updates, state = solver.update(grad, state, weights, value=value, grad=grad, value_fn=loss)
        return (optax.apply_updates(weights, updates), state), None

    weights = jnp.zeros((x.shape[1], len(PACKAGES)))
    (weights, _), _ = jax.lax.scan(step, (weights, solver.init(weights)), length=_STEPS)
    return weights


def _features(splits: tuple[Passages, ...], vectors: Vectors | None) -> list[np.ndarray]:
    """A float32 matrix [N, F] for each split; the features are those of the first."""
    documents = [[_grams(words) for words in split.words] for split in splits]
    known = collections.Counter(gram for grams in documents[0] for gram in set(grams))
    places = {gram: place for place, gram in enumerate(known)}
    weight = np.log(len(documents[0]) / np.array([*known.values()], np.float32)) + 1
    matrices = []
    for split, rows in zip(splits, documents, strict=True):
        matrix = np.zeros((len(rows), len(places)), np.float32)
        for row, grams in zip(matrix, rows, strict=True):
            for gram, count in collections.Counter(grams).items():
                if (place := places.get(gram)) is not None:
                    row[place] = np.sqrt(count) * weight[place]
        parts = [_of_length_one(matrix)]
        if vectors is not None:
            parts.append(_of_length_one(vectors.table[vectors.ids(split)].sum(1)))
        matrices.append(np.concatenate([*parts, np.ones((len(rows), 1), np.float32)], axis=1))
    return _rotated(matrices)


def _rotated(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """The same features in the space of the first matrix's rows, some tenth of the columns: a
    penalised model has no weights outside of it."""
    values, basis = np.linalg.eigh(matrices[0] @ matrices[0].T)
    kept = values > 1e-6 * values[-1]
    basis = matrices[0].T @ (basis[:, kept] / np.sqrt(values[kept]))
    return [matrix @ basis for matrix in matrices]


def _grams(words: list[str]) -> list[str]:
    return [*words, *map(" ".join, itertools.pairwise(words))]


def _of_length_one(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
