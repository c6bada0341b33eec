"""Additive attention masks, as PyTorch models take them; ours take the 0/1 mask itself."""

from typing import Any

import jax
import jax.numpy as jnp


def extended_attention_mask(
    attention_mask: jax.Array,
    input_shape: tuple[int, int],
    *,
    causal: bool = False,
    dtype: Any = jnp.float32,
) -> jax.Array:
    """A 0/1 mask as what is added to attention logits: 0 to attend, `finfo(dtype).min` to ignore.

    As `ModuleUtilsMixin.get_extended_attention_mask` of Transformers 4.53.

    Args:
        attention_mask: [B, S], 1 for tokens; or [B, T, S] over pairs, which is taken as it is.
        input_shape: (B, T) of the tokens.
        causal: token t also ignores those after it; where S > T the first S - T are a prefix that
            every token sees.

    Returns:
        [B, 1, 1, S], or [B, 1, T, S] if causal or over pairs.

    Raises:
        ValueError: a mask of another shape.
    """
    mask = jnp.asarray(attention_mask)
    batch, length = input_shape
    fits = mask.ndim in (2, 3) and mask.shape[0] == batch and mask.shape[-1] >= length
    if not fits or (mask.ndim == 3 and mask.shape[1] != length):
        raise ValueError(
            f"attention_mask {mask.shape} for input_ids {tuple(input_shape)}: expected "
            f"[{batch}, S] or [{batch}, {length}, S] with S at least {length}"
        )
    if mask.ndim == 3:
        return _additive(mask[:, None], dtype)
    mask = mask[:, None, None]
    if causal:
        size = mask.shape[-1]
        queries = jnp.arange(size - length, size)[:, None]
        mask = mask * (jnp.arange(size)[None] <= queries)[None, None].astype(mask.dtype)
    return _additive(mask, dtype)


def invert_attention_mask(encoder_attention_mask: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """A 0/1 mask [B, S] or [B, T, S] over an encoder's tokens -> additive [B, 1, 1 or T, S].

    Raises:
        ValueError: a mask of another rank.
    """
    mask = jnp.asarray(encoder_attention_mask)
    if mask.ndim not in (2, 3):
        raise ValueError(f"encoder_attention_mask {mask.shape}: expected [B, S] or [B, T, S]")
    return _additive(mask[:, None, None] if mask.ndim == 2 else mask[:, None], dtype)


def _additive(mask: jax.Array, dtype: Any) -> jax.Array:
    one = jnp.ones((), dtype)
    return (one - mask.astype(dtype)) * jnp.finfo(dtype).min
