"""Keys of random numbers, as callers give them."""

import jax
import jax.numpy as jnp
import numpy as np


def one_key(key: object) -> jax.Array:
    """Returns a key that draws, typed: itself, or the bits of an old-style one, uint32 [2] or [4].

    Raises:
        TypeError: what is no key.
        ValueError: several.
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return _single(key, key.shape)
    if isinstance(key, jax.Array | np.ndarray):
        if key.dtype == jnp.uint32 and key.shape[-1:] in ((2,), (4,)):
            default = str(jax.random.key_impl(jax.random.key(0)))
            rbg = default if default.endswith("rbg") else "rbg"
            impl = "threefry2x32" if key.shape[-1] == 2 else rbg
            return _single(jax.random.wrap_key_data(jnp.asarray(key), impl=impl), key.shape[:-1])
    is_array = isinstance(key, jax.Array | np.ndarray)
    got = f"{key.dtype}{list(key.shape)}" if is_array else f"{key!r:.80}"
    raise TypeError(f"key is {got}; pass key=jax.random.key(seed)")


def _single(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if shape:
        raise ValueError(
            f"key holds {shape} keys, and one draws all; for several draws, jax.vmap over the keys"
        )
    return key
