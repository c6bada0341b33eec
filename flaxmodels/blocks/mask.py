"""Attention masks: the causal mask, masks of padding and of cache slots, and additive masks.

The masks of the blocks are bool, True where a query attends to a key. PyTorch models add numbers to
the attention logits instead; the last two functions make those for code that wants them.
"""

import jax
import jax.numpy as jnp


def causal_mask(queries: int, keys: int, start: int | jax.Array = 0) -> jax.Array:
    """Returns bool [T, S] for T = `queries` and S = `keys`: True where a key is no later than the
    query. Query t stands at place `start` + t among the keys."""
    places = start + jnp.arange(queries, dtype=jnp.int32)
    return places[:, None] >= jnp.arange(keys, dtype=jnp.int32)[None]


def token_mask(attention_mask: jax.Array | None, length: int) -> jax.Array | None:
    """Turns a caller's mask into one for `attend`: bool [B, 1, T or 1, T], or None for everywhere.

    Args:
        attention_mask: [B, T] over tokens or [B, T, T] over pairs (query, key), nonzero = attend.
        length: T.
    """
    if attention_mask is None:
        return None
    mask = jnp.asarray(attention_mask).astype(bool)
    if mask.ndim == 2 and mask.shape[1] == length:
        return mask[:, None, None]
    if mask.ndim == 3 and mask.shape[1:] == (length, length):
        return mask[:, None]
    raise ValueError(
        f"attention_mask {mask.shape}: expected [B, {length}] over tokens, or "
        f"[B, {length}, {length}] over pairs of them"
    )


def cache_mask(slots: jax.Array, length: int, start: int | jax.Array) -> jax.Array:
    """Returns bool [B, 1, T, S] for T = `length` new tokens, in the slots from `start` on.

    Args:
        slots: bool [B, S], which slots of the cache hold a token, the new ones included.
    """
    return slots[:, None, None] & causal_mask(length, slots.shape[1], start)[None, None]


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
    mask, keys = mask[:, None, None], mask.shape[1]
    if causal:
        mask = mask * causal_mask(length, keys, keys - length)[None, None].astype(mask.dtype)
    return _additive(mask, dtype)


def invert_attention_mask(
    encoder_attention_mask: jax.Array, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Turns a 0/1 mask [B, S] or [B, T, S] over an encoder's tokens into an additive one
    [B, 1, 1 or T, S].

    Raises:
        ValueError: a mask of another rank.
    """
    mask = jnp.asarray(encoder_attention_mask)
    if mask.ndim not in (2, 3):
        raise ValueError(f"encoder_attention_mask {mask.shape}: expected [B, S] or [B, T, S]")
    return _additive(mask[:, None, None] if mask.ndim == 2 else mask[:, None], dtype)


def _additive(mask: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    one = jnp.ones((), dtype)
    return (one - mask.astype(dtype)) * jnp.finfo(dtype).min
