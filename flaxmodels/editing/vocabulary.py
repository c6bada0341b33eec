"""The size of a vocabulary: tokens added or cut; and the methods of a model about its tokens."""

import functools

import jax
import jax.numpy as jnp

from ..core.model import Mixin
from ..params.scalars import flag, whole
from ..params.tree import resize
from ..params.tree.keys import one_key
from ..params.types import Params
from . import embeddings
from .token_leaves import (
    M,
    TokenLeaves,
    check_shards,
    check_tree,
    checked_leaves,
    replace_leaves,
    round_up,
    token_leaves,
    with_vocab_size,
)

_SPREAD = 1e-9
"""Transformers 5.23 multiplies the covariance of the old embeddings by it, and the standard
deviation of the old biases: new tokens start at the mean, hardly apart."""
_ROWS_AT_ONCE = 256
"""Rows drawn together; their noise is this many times V float32 numbers."""


def resize_token_embeddings(
    model: M,
    params: Params,
    new_num_tokens: int | None = None,
    key: jax.Array | None = None,
    *,
    pad_to_multiple_of: int | None = None,
    mean_resizing: bool = True,
) -> tuple[M, Params]:
    """Returns `(model, params)` with another number of tokens: the last are cut, or new ones are
    appended, in the table and in the LM head. With the old number both are returned unchanged.

    New rows of the table and columns of an untied head are drawn as Transformers 5.23 does: from
    the normal with the mean of the old ones and 1e-9 of their covariance, in float32, so that the
    probabilities of old tokens hardly change (Hewitt 2021, "Initializing new word embeddings for
    pretrained language models"). New biases are 0 in a tied head, and in an untied one normal with
    the mean of the old ones and 1e-9 of their standard deviation.

    Token ids of the config stay, even if their row is cut: PyTorch does not open a model whose
    `pad_token_id` has no row.

    Args:
        params: arrays, sharded or not, or abstract leaves; also under `jit`.
        new_num_tokens: `config.vocab_size` if None.
        key: a `jax.random.key`, needed to add tokens to params that are not abstract.
        pad_to_multiple_of: the number is rounded up to a multiple of this: of 128 for matrix units,
            of the devices that the vocabulary is spread over.
        mean_resizing: False draws rows and columns from the normal with mean 0 and standard
            deviation `config.initializer_range`; new biases are 0.

    Raises:
        TypeError: params that are no tree.
        ValueError: a number below 1, or traced, tokens to add without a key, or shards that do not
            divide.
    """
    check_tree(params)
    flag("mean_resizing", mean_resizing)
    old = model.config.text.vocab_size
    size = old if new_num_tokens is None else whole("new_num_tokens", new_num_tokens)
    step = 1 if pad_to_multiple_of is None else whole("pad_to_multiple_of", pad_to_multiple_of)
    size = round_up(size, step)
    if size == old:
        return model, params
    new, own = with_vocab_size(model, size), token_leaves(model)
    leaves = checked_leaves(model, params)
    check_shards(own, leaves, size, step)
    abstract = all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves.values())
    if size > old and key is None and not abstract:
        raise ValueError(
            f"{size - old} new tokens are drawn at random: pass key=jax.random.key(seed)"
        )
    std = None if mean_resizing else model.config.initializer_range
    draws = {path: _draw(own, path, std) for path in leaves}
    key = None if key is None else one_key(key)
    return new, replace_leaves(params, resize.resized(leaves, size, own.axes, draws, key))


def _draw(own: TokenLeaves, path: str, std: float | None) -> resize.Draw:
    """Chooses how a leaf's new entries are drawn: close to the mean of the old if `std` is None."""
    if path in dict(own.others) and path.endswith("bias"):
        return resize.zeros
    if path == own.bias:
        tied = own.kernel is None
        return resize.zeros if tied or std is not None else _biases
    return _rows if std is None else _initial_rows(std)


def _rows(key: jax.Array | None, table: jax.Array, count: int) -> jax.Array:
    """Draws `count` rows from the normal with the mean of the table's V rows and `_SPREAD` of their
    covariance.

    Centred noise [V] times the table has exactly that covariance, times V. So nothing is
    decomposed, and a table of any rank will do.
    """
    assert key is not None
    rows, size = table.astype(jnp.float32), table.shape[0]
    together = min(count, _ROWS_AT_ONCE)

    def draw(key: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, (together, size))
        return (noise - jnp.mean(noise, axis=1, keepdims=True)) @ rows

    drawn = jax.lax.map(draw, jax.random.split(key, -(-count // together)))
    spread = (_SPREAD / size) ** 0.5 * drawn.reshape(-1, rows.shape[1])[:count]
    return jnp.mean(rows, axis=0, keepdims=True) + spread


@functools.lru_cache(maxsize=8)  # the same function again: another would be compiled again
def _initial_rows(std: float) -> resize.Draw:
    def draw(key: jax.Array | None, table: jax.Array, count: int) -> jax.Array:
        assert key is not None
        return std * jax.random.normal(key, (count, table.shape[1]))

    return draw


def _biases(key: jax.Array | None, bias: jax.Array, count: int) -> jax.Array:
    assert key is not None
    old = bias.astype(jnp.float32)
    noise = jax.random.normal(key, (count,))
    return jnp.mean(old) + _SPREAD * jnp.std(old) * noise


class HasVocabulary(Mixin):
    """Adds the functions of `embeddings` and of this file to a model, as methods."""

    get_input_embeddings = embeddings.get_input_embeddings
    get_output_embeddings = embeddings.get_output_embeddings
    get_lm_head = embeddings.get_lm_head
    get_output_layer_with_bias = embeddings.get_output_layer_with_bias
    get_prefix_bias_name = embeddings.get_prefix_bias_name
    get_bias = embeddings.get_bias
    set_input_embeddings = embeddings.set_input_embeddings
    set_output_embeddings = embeddings.set_output_embeddings
    set_bias = embeddings.set_bias
    tie_weights = embeddings.tie_weights
    untie_weights = embeddings.untie_weights
    resize_token_embeddings = resize_token_embeddings
