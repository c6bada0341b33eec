"""Additive attention masks, which PyTorch models add to the attention logits: for code that wants
them. The masks of the blocks are bool."""

import jax
import jax.numpy as jnp

from ...params.tree.cast import parse_dtype
from ..inputs import as_numbers
from .mask import Causal


def extended_attention_mask(
    attention_mask: jax.Array,
    input_shape: tuple[int, int],
    *,
    causal: bool = False,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> jax.Array:
    """Turns a 0/1 mask into numbers to add to attention logits: 0 to attend, `finfo(dtype).min` to
    ignore.

    Source: `ModuleUtilsMixin.get_extended_attention_mask` of Transformers 4.53.

    Args:
        attention_mask: [B, S], 1 for tokens; or [B, T, S] over pairs, to which `causal` adds
            nothing.
        input_shape: (B, T) of the tokens.
        causal: token t also ignores those after it; where S > T the first S - T are a prefix that
            every token sees.

    Returns:
        [B, 1, 1, S], or [B, 1, T, S] if causal or over pairs.

    Raises:
        ValueError: a mask of another shape; a dtype without floating-point numbers.
    """
    mask = as_numbers("attention_mask", attention_mask)
    batch, length = input_shape
    fits = mask.ndim in (2, 3) and mask.shape[0] == batch and mask.shape[-1] >= length
    if not fits or (mask.ndim == 3 and mask.shape[1] != length):
        raise ValueError(
            f"attention_mask {mask.shape} for input_ids {tuple(input_shape)}: expected "
            f"[{batch}, S] or [{batch}, {length}, S] with S at least {length}"
        )
    if mask.ndim == 3:
        return _additive(mask[:, None], dtype)
    mask, keys = mask[:, None, None], mask.shape[1]
    if causal:
        queries = jnp.arange(keys - length, keys, dtype=jnp.int32)
        seen = Causal()(queries, jnp.arange(keys, dtype=jnp.int32))
        mask = mask * seen.astype(mask.dtype)
    return _additive(mask, dtype)


def invert_attention_mask(
    encoder_attention_mask: jax.Array, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Turns a 0/1 mask [B, S] or [B, T, S] over an encoder's tokens into an additive one
    [B, 1, 1 or T, S].

    Raises:
        ValueError: a mask of another rank; a dtype without floating-point numbers.
    """
    mask = as_numbers("encoder_attention_mask", encoder_attention_mask)
    if mask.ndim not in (2, 3):
        raise ValueError(f"encoder_attention_mask {mask.shape}: expected [B, S] or [B, T, S]")
    return _additive(mask[:, None, None] if mask.ndim == 2 else mask[:, None], dtype)


def _additive(mask: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    mask = mask.astype(parse_dtype(dtype))
    return (1 - mask) * jnp.finfo(mask.dtype).min
