"""What layers are told beside their configuration: options of the model, and the context of a
forward pass."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypedDict

import jax
import jax.numpy as jnp

from .. import sharding as fs
from ..params.types import PyTree
from .attention.mask import AttentionMask, Rule, token_mask
from .inputs import Tokens
from .kv_cache import Cache
from .rope.rotary import Rotation

DTYPES = ("float32", "bfloat16", "float16", "float64")


def check_dtype(dtype: jnp.dtype) -> None:
    """Raises `ValueError` unless layers can compute in `dtype`."""
    if dtype.name not in DTYPES:
        raise ValueError(f"dtype {dtype.name}: no layer computes in it; use {', '.join(DTYPES)}")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError("dtype float64: JAX makes float32 of it unless jax_enable_x64 is set")


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Options of a model that its layers read: static and hashable, part of what is compiled.

    The attributes are fields of `flaxmodels.core.model.Model`, which documents them. No tuple:
    linen looks for modules in the tuples that a module has, and through every name of the rules for
    each layer and block; tracing took a twelfth longer.
    """

    attn_implementation: str = "sdpa"
    scan_layers: bool = False
    remat: object = None
    rules: fs.Rules = fs.DEFAULT_RULES

    def residual(self, x: jax.Array) -> jax.Array:
        """Constrains the residual stream x [B, T, D], where a block has added to it."""
        return fs.constrain(x, ("batch", "residual_length", "hidden"), self.rules)


class Scored(TypedDict):
    """Keywords of an attention that most layers give: the options of the model, what products are
    multiplied with, and the rate at which weights are dropped."""

    options: ModelOptions
    scale: float
    dropout: float


class PassContext(NamedTuple):
    """The context of one forward pass, which every layer reads.

    Attributes:
        positions: int32 [B or 1, T], where each token stands in its sequence.
        masks: {attention kind: which keys a query attends to}.
        biases: {attention kind: what is added to scores [B or 1, N, T or 1, S]}.
        rotations: {rotary kind: cosines and sines}.
        cache: keys and values of earlier tokens; a layer gets it as the layers before left it.
        encoder_states: [B, S, De] of an encoder, for cross-attention; None where there are none, or
            where the cache has their keys and values.
        encoder_mask: bool [B or 1, 1, 1, S], which of them are tokens; None for all.
        head_scales: [N] of each layer, what the output of a head is multiplied with; or None.
        layer_inputs: what this layer is given of the inputs of `Layers`.
        shared: what layers before left for this one; a pytree of fixed structure.
        deterministic: no dropout.
        output_hidden_states: keep what enters every layer.
        output_attentions: keep the attention weights of every layer.
    """

    positions: jax.Array
    masks: Mapping[str, AttentionMask]
    biases: Mapping[str, jax.Array] = {}
    rotations: Mapping[str, Rotation] = {}
    cache: Cache | None = None
    encoder_states: jax.Array | None = None
    encoder_mask: jax.Array | None = None
    head_scales: PyTree = None  # a list of arrays; in a scan one array, whose index is traced
    layer_inputs: PyTree = None
    shared: PyTree = None
    deterministic: bool = True
    output_hidden_states: bool = False
    output_attentions: bool = False

    def num_keys(self, attention: str) -> int:
        """Returns how many keys a layer of a kind attends to, with a cache."""
        return self.masks[attention].tokens.shape[-1]  # pyright: ignore[reportOptionalMemberAccess]

    @property
    def has_encoder(self) -> bool:
        """Whether there is an encoder to attend to, in this call or in the cache."""
        return self.encoder_states is not None or (
            self.cache is not None and self.cache.cross is not None
        )


def pass_context(
    tokens: Tokens,
    attentions: Iterable[str],
    rule: Callable[[str], Rule | None],
    cache: Cache | None = None,
) -> PassContext:
    """Returns the context of a pass: positions, and the mask of each kind of attention.

    With a cache the places of the new tokens are claimed in it, and positions go on from its index.

    Args:
        attentions: kinds of attention.
        rule: of a kind, which places a place attends to; None for all.
    """
    length = tokens.shape[1]
    if cache is None:
        allowed = token_mask(tokens.attention_mask, length)
        masks = {each: AttentionMask(rule(each), allowed) for each in attentions}
        return PassContext(_positions(tokens, 0), masks)
    cache = cache.claim(tokens.attention_mask, length)
    queries, masks = cache.index + jnp.arange(length, dtype=jnp.int32), {}
    for each in attentions:
        keys = cache.entries[each].places(cache.index, length)
        masks[each] = AttentionMask(rule(each), cache.tokens_at(keys), queries, keys)
    return PassContext(_positions(tokens, cache.index), masks, cache=cache)


def with_encoder(
    context: PassContext, states: jax.Array | None, mask: jax.Array | None, heads: tuple[int, int]
) -> PassContext:
    """Returns the context of a decoder that also attends to an encoder's states [B, S, De].

    A cache keeps their keys and values, and which are tokens, for the calls that follow, which
    give none.

    Args:
        mask: [B or 1, S], 1 for tokens; None for all.
        heads: (number of key-value heads, width of one).
    """
    cache = context.cache
    if states is None:
        cross = None if cache is None else cache.cross
        return context if cross is None else context._replace(encoder_mask=cross.tokens)
    tokens = (
        jnp.ones((1, states.shape[1]), bool) if mask is None else jnp.asarray(mask).astype(bool)
    )
    tokens = jnp.broadcast_to(tokens, states.shape[:2])[:, None, None]
    if cache is not None:
        cache = cache.with_cross(tokens, heads)
    return context._replace(cache=cache, encoder_states=states, encoder_mask=tokens)


def _positions(tokens: Tokens, start: int | jax.Array) -> jax.Array:
    if tokens.position_ids is not None:
        return tokens.position_ids
    return start + jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
