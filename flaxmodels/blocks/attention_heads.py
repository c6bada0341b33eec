"""The attention heads of each layer: which pruning left there, and how much each counts."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..config.config import Config
from .inputs import as_numbers


def kept_heads(config: Config, layer: int) -> tuple[int, ...]:
    """Returns the heads of a layer that are not pruned, numbered as if none were."""
    pruned = config.pruned_heads.get(str(layer)) or ()
    return tuple(head for head in range(config.num_attention_heads) if head not in pruned)


def kept_kv_heads(config: Config, layer: int) -> tuple[int, ...]:
    """Returns the key-value heads of a layer that some head which is not pruned attends with."""
    group = config.num_attention_heads // config.num_key_value_heads
    return tuple(dict.fromkeys(head // group for head in kept_heads(config, layer)))


def num_heads(config: Config, index: int | jax.Array) -> tuple[int, int]:
    """Returns the numbers (heads, key-value heads) of layer `index`.

    A traced index is of a scan, all of whose layers have the same numbers.
    """
    layer = index if isinstance(index, int) else 0
    return len(kept_heads(config, layer)), len(kept_kv_heads(config, layer))


def heads_are_even(config: Config) -> bool:
    """Tells whether all layers have the same number of heads: only then can params be stacked."""
    counts = {len(heads) for heads in config.pruned_heads.values()}
    return not counts or (len(counts) == 1 and len(config.pruned_heads) == config.num_hidden_layers)


def get_head_mask(
    head_mask: jax.Array | None, num_hidden_layers: int, is_attention_chunked: bool = False
) -> jax.Array | None:
    """Shapes a head mask for a product with attention weights [L, B, N, T, S]: [L, 1, N, 1, 1].

    Source: `get_head_mask` of Transformers 4.53, which has a list of None for None.

    Args:
        head_mask: [N] for every layer, or [L, N]: 1 keeps a head, 0 drops it. None, and what this
            function returned, are returned unchanged.
        num_hidden_layers: L.
        is_attention_chunked: attention is computed by chunks: one more axis, [L, 1, N, 1, 1, 1].

    Raises:
        ValueError: a mask of another shape.
    """
    if head_mask is None:
        return None
    mask = as_numbers("head_mask", head_mask)
    if mask.ndim == 1:
        mask = jnp.broadcast_to(mask[None], (num_hidden_layers, mask.shape[0]))
    if mask.ndim == 2:
        mask = mask[:, None, :, None, None]
    if mask.ndim != 5 or mask.shape[0] != num_hidden_layers:
        raise ValueError(
            f"head_mask {jnp.shape(head_mask)}: expected [heads], or [{num_hidden_layers}, heads] "
            "over layers and heads"
        )
    return mask[..., None] if is_attention_chunked else mask


def head_scales(
    config: Config, head_mask: jax.Array | None, *, stacked: bool
) -> Sequence[jax.Array] | jax.Array | None:
    """Returns what the output of each head that is not pruned is multiplied with: [N] for each
    layer, or [L, N] if `stacked`; None for a mask that is None.

    Args:
        head_mask: as `get_head_mask` takes or returns it, over all heads, pruned ones too.
    """
    depth, heads = config.num_hidden_layers, config.num_attention_heads
    mask = get_head_mask(head_mask, depth)
    if head_mask is None or mask is None:
        return None
    if mask.shape != (depth, 1, heads, 1, 1):
        raise ValueError(
            f"head_mask {jnp.shape(head_mask)}: expected [{heads}] or [{depth}, {heads}]"
        )
    rows = [mask[layer, 0, np.array(kept_heads(config, layer)), 0, 0] for layer in range(depth)]
    return jnp.stack(rows) if stacked else rows
