"""The mean over tokens."""

import jax
import jax.numpy as jnp


def mean_of_tokens(x: jax.Array, attention_mask: jax.Array | None) -> jax.Array:
    """Returns the mean of x [B, T, D] over the places that are tokens -> [B, D].

    Args:
        attention_mask: [B or 1, T], 1 for tokens; None for all.

    Raises:
        ValueError: a mask over pairs of tokens, which does not say which of them count.
    """
    if attention_mask is None:
        return x.mean(1)
    mask = jnp.asarray(attention_mask)
    if mask.ndim != 2:
        raise ValueError(
            f"attention_mask has shape {mask.shape}: a mean over tokens needs one over them, [B, T]"
        )
    mask = mask.astype(bool).astype(x.dtype)[..., None]
    return (x * mask).sum(1) / mask.sum(1)
