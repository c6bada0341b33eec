"""Which tokens a token sees, and where in its sequence it stands."""

import jax
import jax.numpy as jnp

from .attention import make_mask
from .cache import Cache
from .context import Call
from .inputs import Tokens


def bidirectional(call: Call, tokens: Tokens) -> tuple[Call, None, jax.Array]:
    """Does for an encoder what `causal` does: each token sees all, and there is no cache."""
    length = tokens.shape[1]
    positions = tokens.position_ids
    if positions is None:
        positions = jnp.arange(length, dtype=jnp.int32)[None]
    return call._replace(mask=make_mask(tokens.attention_mask, length=length)), None, positions


def causal(call: Call, cache: Cache | None, tokens: Tokens) -> tuple[Call, Cache | None, jax.Array]:
    """Prepares a call of a decoder over new tokens: each sees itself and those before it.

    Returns:
        the call with its mask, the cache with their slots claimed, and the positions of the
        tokens, int32 [B or 1, T]: where the caller says nothing else, one after another.
    """
    length = tokens.shape[1]
    positions = tokens.position_ids
    if positions is None:
        after = jnp.int32(0) if cache is None else cache.index
        positions = after + jnp.arange(length, dtype=jnp.int32)[None]
    if cache is None:
        mask = make_mask(tokens.attention_mask, length=length)
        return call._replace(mask=mask, causal=True), None, positions
    cache = cache.claim(tokens.attention_mask, length)
    mask = make_mask(None, length=length, slots=cache.mask, start=cache.index)
    return call._replace(mask=mask), cache, positions
