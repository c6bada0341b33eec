"""Packed rows: several texts in one row, told apart by the ids of their segments."""

import jax
import jax.numpy as jnp

from ..params.types import PyTree


def unpacked(inputs: dict[str, PyTree], segment_ids: jax.Array) -> dict[str, PyTree]:
    """Returns a model's inputs for packed rows: tokens attend to their own segment alone, and
    positions begin anew in each.

    Args:
        inputs: of a model; an `attention_mask` [B, T] of them hides padding too.
        segment_ids: integers [B, T]: 0 is padding, and each text of a row is a run of another
            number.

    Raises:
        ValueError: ids of another shape than [B, T], a mask over pairs, or a decoder's inputs
            beside them.
    """
    ids = jnp.asarray(segment_ids)
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"segment_ids are {ids.dtype}{list(ids.shape)}: expected integers [B, T]")
    if any(name.startswith("decoder_") for name in inputs):
        raise ValueError("segment_ids: rows of an encoder-decoder cannot be packed")
    same = ids[:, :, None] == ids[:, None, :]  # padding sees padding: no row sees nothing
    if (mask := inputs.get("attention_mask")) is not None:
        if jnp.ndim(mask) != 2:
            raise ValueError("segment_ids beside an attention_mask that is not [B, T]")
        same &= jnp.asarray(mask, bool)[:, None, :]
    made = {"attention_mask": same, "position_ids": positions(ids)}
    return {**made, **{k: v for k, v in inputs.items() if k != "attention_mask"}}


def positions(segment_ids: jax.Array) -> jax.Array:
    """Returns int32 [B, T]: how many tokens of its segment are before each.

    >>> positions(jnp.array([[1, 1, 2, 2, 2, 0]])).tolist()
    [[0, 1, 0, 1, 2, 0]]
    """
    places = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)[None]
    is_first = segment_ids[:, 1:] != segment_ids[:, :-1]
    starts = jnp.where(jnp.pad(is_first, ((0, 0), (1, 0))), places, 0)
    return places - jax.lax.cummax(starts, axis=1)
