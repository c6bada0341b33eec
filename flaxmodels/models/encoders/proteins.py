"""What ESM has beside the layers of an encoder: frequencies of its rotation that files hold, tokens
that count as dropped, and maps of which residues attend to each other.
"""

import jax
import jax.numpy as jnp

from ... import params as fp
from .model import encoder_naming
from .style import PredictionNames

_MASKED_IN_TRAINING = 0.15 * 0.8
"""Which share of the tokens ESM's own training masked."""
FREQUENCIES = "rotary_embeddings/inv_freq"
"""Path of what each pair of a head turns by from one place to the next, [H / 2]."""


def frequencies(theta: float, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Makes the frequencies of a base, float32 [H / 2]; an initializer, whose key it needs not."""
    return theta ** -(jnp.arange(shape[0], dtype=jnp.float32) / shape[0])


def naming(predictions: PredictionNames, layers: int, *, without_positions: bool) -> fp.Naming:
    """Makes the names of files, which have the frequencies in each layer, or Transformers 5.23 in
    one called "*"; those of the first layer are read.

    Args:
        without_positions: the model has no table of positions, and files may.
    """
    in_layer = f"attention/self/{FREQUENCIES}"
    copies = tuple(
        (f"{prefix}{FREQUENCIES}", f"{prefix}encoder/layer/{number}/{in_layer}")
        for prefix in ("", "esm/")
        for number in range(1, layers)
    )
    first = f"encoder/layer/0/{in_layer}"
    ignored = [
        r"embeddings\.position_ids$",
        r"layer\.[1-9][0-9]*\.attention\.self\.rotary_embeddings\.inv_freq$",
    ]
    if without_positions:
        ignored.append(r"embeddings\.position_embeddings\.weight$")
    return encoder_naming(
        predictions,
        names=((rf"(?<!self/){FREQUENCIES}$", first),),
        aliases=(
            (r"LayerNorm\.gamma$", "LayerNorm.weight"),
            (r"LayerNorm\.beta$", "LayerNorm.bias"),
            (r"layer\.\*\.attention\.", "layer.0.attention."),
            (r"(?<!self\.)rotary_embeddings\.inv_freq$", first.replace("/", ".")),
        ),
        ignored=tuple(ignored),
        copies=copies,
    )


def without_masked(x: jax.Array, masked: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Makes x [B, T, D] zeros where bool [B, T] is True, and scales the rest by the share that was
    left in training over that which is left here.

    Args:
        mask: [B or 1, T], 1 for tokens; None for all.
    """
    there = jnp.ones_like(masked) if mask is None else mask.astype(bool)
    count, length = (places.sum(1).astype(jnp.float32) for places in (masked, there))
    scale = ((1 - _MASKED_IN_TRAINING) / (1 - count / length)).astype(x.dtype)
    return jnp.where(masked[..., None], 0, x) * scale[:, None, None]


def coupled(maps: jax.Array) -> jax.Array:
    """Makes attention weights [B, C, T, T] symmetric, and takes off each what its row and its
    column would give if they were independent.

    Dunn et al. 2008, doi:10.1093/bioinformatics/btm604.
    """
    maps = maps + jnp.swapaxes(maps, 2, 3)
    rows, columns = maps.sum(3, keepdims=True), maps.sum(2, keepdims=True)
    return maps - rows * columns / rows.sum(2, keepdims=True)
