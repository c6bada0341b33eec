"""What layers are told beside their configuration: options of the model, and the context of a
forward pass."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import sharding as fs
from .attention import AttentionMask, Causal, token_mask
from .inputs import Tokens
from .kv_cache import Cache
from .rotary import Rotation

DTYPES = ("float32", "bfloat16", "float16", "float64")


def check_dtype(dtype: jnp.dtype) -> None:
    """Raises `ValueError` unless layers can compute in `dtype`."""
    if dtype.name not in DTYPES:
        raise ValueError(f"dtype {dtype.name}: no layer computes in it; use {', '.join(DTYPES)}")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError("dtype float64: JAX makes float32 of it unless jax_enable_x64 is set")


class ModelOptions(NamedTuple):
    """Options of a model that its layers read: static and hashable, part of what is compiled.

    The attributes are fields of `flaxmodels.core.model.Model`, which documents them.
    """

    attn_implementation: str = "sdpa"
    scan_layers: bool = False
    remat: Any = None
    rules: fs.Rules = fs.DEFAULT_RULES


class PassContext(NamedTuple):
    """The context of one forward pass, which every layer reads.

    Attributes:
        positions: int32 [B or 1, T], where each token stands in its sequence.
        cache: keys and values of earlier tokens; a layer gets it as the layers before left it.
        mask: which keys each query attends to.
        head_scales: [N] of each layer, what the output of a head is multiplied with; or None.
        rotary: what queries and keys are rotated by; None for nothing.
        deterministic: no dropout.
        output_hidden_states: keep what enters every layer.
        output_attentions: keep the attention weights of every layer.
    """

    positions: jax.Array
    cache: Cache | None = None
    mask: AttentionMask = AttentionMask()
    head_scales: Any = None  # a list of arrays; in a scan one array, whose index is traced
    rotary: Rotation | None = None
    deterministic: bool = True
    output_hidden_states: bool = False
    output_attentions: bool = False


def encoder_context(tokens: Tokens) -> PassContext:
    """Returns the context of an encoder's pass: each token attends to all."""
    mask = AttentionMask(tokens=token_mask(tokens.attention_mask, tokens.shape[1]))
    return PassContext(_positions(tokens, 0), mask=mask)


def decoder_context(tokens: Tokens, cache: Cache | None) -> PassContext:
    """Returns the context of a decoder's pass: each token attends to itself and to those before it.

    With a cache the slots of the new tokens are claimed in it, and positions go on from its index.
    """
    if cache is None:
        context = encoder_context(tokens)
        return context._replace(mask=context.mask._replace(rule=Causal()))
    length = tokens.shape[1]
    cache = cache.claim(tokens.attention_mask, length)
    queries = cache.index + jnp.arange(length, dtype=jnp.int32)
    mask = AttentionMask(Causal(), cache.mask[:, None, None], queries)
    return PassContext(_positions(tokens, cache.index), cache, mask)


def _positions(tokens: Tokens, start: int | jax.Array) -> jax.Array:
    if tokens.position_ids is not None:
        return tokens.position_ids
    return start + jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
